-- +goose Up

-- Databases that a restore makes only for a while, noted before they are made: a
-- worker that is killed cannot drop them. The row goes when they are gone. It
-- outlives its execution, and so refers to none.
create table restore_leftovers (
    execution_id  uuid primary key,
    datasource_id uuid not null references datasources (id),
    database      text not null, -- the database of a verification, to be dropped; empty for none
    error         text not null default '', -- why they could not be dropped
    tried_at      timestamptz,
    created_at    timestamptz not null default now()
);

-- +goose Down
drop table restore_leftovers;
