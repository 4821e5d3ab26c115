-- +goose Up

-- How many executions of each day (UTC, by creation) stand in each status: the
-- sum of n. A change only adds rows, so that writers never wait for each other;
-- the cleanup worker folds them into one row per day and status.
create table execution_counts (
    day    date not null,
    status text not null,
    n      bigint not null
);
create index execution_counts_day_idx on execution_counts (day) include (status, n);

insert into execution_counts (day, status, n)
select (created_at at time zone 'utc')::date, status, count(*) from backup_executions group by 1, 2;

-- +goose StatementBegin
create function count_new_executions() returns trigger language plpgsql as $$
begin
    insert into execution_counts (day, status, n)
    select (created_at at time zone 'utc')::date, status, count(*) from added group by 1, 2;
    return null;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function count_deleted_executions() returns trigger language plpgsql as $$
begin
    insert into execution_counts (day, status, n)
    select (created_at at time zone 'utc')::date, status, -count(*) from removed group by 1, 2;
    return null;
end $$;
-- +goose StatementEnd

-- +goose StatementBegin
create function count_changed_execution() returns trigger language plpgsql as $$
begin
    insert into execution_counts (day, status, n)
    values ((old.created_at at time zone 'utc')::date, old.status, -1), ((new.created_at at time zone 'utc')::date, new.status, 1);
    return null;
end $$;
-- +goose StatementEnd

create trigger backup_executions_count_new after insert on backup_executions
    referencing new table as added for each statement execute function count_new_executions();
create trigger backup_executions_count_deleted after delete on backup_executions
    referencing old table as removed for each statement execute function count_deleted_executions();
-- Heartbeats do not name these columns.
create trigger backup_executions_count_changed after update of status, created_at on backup_executions
    for each row when (old.status is distinct from new.status or old.created_at is distinct from new.created_at)
    execute function count_changed_execution();

-- What ended in the last 24 hours.
create index backup_executions_finished_idx on backup_executions (finished_at) include (status) where finished_at is not null;

-- +goose Down
drop index backup_executions_finished_idx;
drop trigger backup_executions_count_new on backup_executions;
drop trigger backup_executions_count_deleted on backup_executions;
drop trigger backup_executions_count_changed on backup_executions;
drop function count_new_executions, count_deleted_executions, count_changed_execution;
drop table execution_counts;
