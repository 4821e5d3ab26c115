-- name: HoldTarget :execrows
update backup_executions set lock_key = @lock_key
where id = @id and fence = @fence and worker_id = @worker_id and status = 'running';

-- name: OwnDatabase :one
select system_identifier::text as server, current_database()::text as database from pg_control_system();

-- name: NoteLeftovers :exec
insert into restore_leftovers (execution_id, datasource_id, database)
values (@execution_id, @datasource_id, @database)
on conflict (execution_id) do update set datasource_id = excluded.datasource_id, database = excluded.database;

-- name: ForgetLeftovers :exec
delete from restore_leftovers where execution_id = @execution_id;

-- name: AbandonedLeftovers :many
-- Those whose restore has ended, or is known no more.
select l.execution_id, l.datasource_id, l.database, l.error
from restore_leftovers l
left join backup_executions e on e.id = l.execution_id
where e.id is null or e.status not in ('queued', 'running')
order by l.tried_at nulls first, l.execution_id
limit @page_limit::bigint;

-- name: NoteSweepFailure :exec
update restore_leftovers set error = @error, tried_at = now() where execution_id = @execution_id;
