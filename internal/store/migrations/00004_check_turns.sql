-- +goose Up

-- Whose turn it is to be checked, and how its newest checks went in a row. Whoever
-- takes a turn moves next_check_at ahead: any number of processes share the checks.
alter table datasources
    add column next_check_at timestamptz not null default now(),
    add column check_grade text not null default '' check (check_grade in ('', 'good', 'slow', 'bad', 'full')),
    add column check_streak bigint not null default 0;
create index datasources_check_idx on datasources (next_check_at) where enabled and deleted_at is null;

alter table storage_locations
    add column next_check_at timestamptz not null default now(),
    add column check_grade text not null default '' check (check_grade in ('', 'good', 'slow', 'bad', 'full')),
    add column check_streak bigint not null default 0,
    add column low_space boolean not null default false;
create index storage_locations_check_idx on storage_locations (next_check_at) where deleted_at is null;

-- +goose Down
drop index datasources_check_idx, storage_locations_check_idx;
alter table datasources drop column next_check_at, drop column check_grade, drop column check_streak;
alter table storage_locations drop column next_check_at, drop column check_grade, drop column check_streak, drop column low_space;
