-- +goose Up

-- When an execution last changed its status: those who watch read what is new by
-- it. The clock runs on within a transaction, so that changed_at is never before
-- the transaction's start. Executions from before have not changed since then.
alter table backup_executions add column changed_at timestamptz;
create index backup_executions_changed_idx on backup_executions (changed_at, id) where changed_at is not null;

-- +goose StatementBegin
create function note_execution_change() returns trigger language plpgsql as $$
begin
    new.changed_at := clock_timestamp();
    return new;
end
$$;
-- +goose StatementEnd

create trigger backup_executions_changed before insert or update of status on backup_executions
for each row execute function note_execution_change();

-- Whatever becomes visible from now on changed at this time or later: no transaction
-- that is still open began before it. Where other roles hide theirs, a quarter of an
-- hour is taken for certain; a transaction that is open for longer is broken.
-- +goose StatementBegin
create function change_horizon() returns timestamptz language sql stable as $$
    select least(now(), greatest(now() - interval '15 minutes',
        case when bool_or(query = '<insufficient privilege>') then now() - interval '15 minutes' else min(xact_start) end))
        - interval '2 seconds'
    from pg_stat_activity
    where datname = current_database() and backend_type = 'client backend'
$$;
-- +goose StatementEnd

-- +goose Down
drop function change_horizon();
drop trigger backup_executions_changed on backup_executions;
drop function note_execution_change();
drop index backup_executions_changed_idx;
alter table backup_executions drop column changed_at;
