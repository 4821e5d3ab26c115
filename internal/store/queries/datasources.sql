-- name: CreateDatasource :exec
insert into datasources (id, name, type, status, enabled, protected, tags, connection_config, secrets)
values (@id, @name, @type, @status, @enabled, @protected, @tags, @connection_config, @secrets);

-- name: GetDatasource :one
select * from datasources where id = @id and deleted_at is null;

-- name: LockDatasource :one
select * from datasources where id = @id and deleted_at is null for update;

-- name: HoldDatasource :one
-- Keeps it from being deleted until the end of the transaction.
select id from datasources where id = @id and deleted_at is null for key share;

-- name: UpdateDatasource :exec
update datasources set name = @name, type = @type, status = @status, enabled = @enabled, protected = @protected, tags = @tags,
    connection_config = @connection_config, secrets = @secrets, last_health_check_at = @last_health_check_at, updated_at = clock_timestamp(),
    next_check_at = clock_timestamp(), -- what was changed is looked at soon
    check_streak = case when @status = 'unknown' then 0 else check_streak end
where id = @id;

-- name: ListDatasources :many
select * from datasources
where deleted_at is null
    and (sqlc.narg('type')::text is null or type = sqlc.narg('type'))
    and (sqlc.narg('status')::text is null or status = sqlc.narg('status'))
    and (sqlc.narg('enabled')::boolean is null or enabled = sqlc.narg('enabled'))
    and (sqlc.narg('tag')::text is null or tags @> array[sqlc.narg('tag')])
    and (sqlc.narg('scope')::text[] is null or tags && sqlc.narg('scope'))
order by name
limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountDatasources :one
select count(*) from datasources
where deleted_at is null
    and (sqlc.narg('type')::text is null or type = sqlc.narg('type'))
    and (sqlc.narg('status')::text is null or status = sqlc.narg('status'))
    and (sqlc.narg('enabled')::boolean is null or enabled = sqlc.narg('enabled'))
    and (sqlc.narg('tag')::text is null or tags @> array[sqlc.narg('tag')])
    and (sqlc.narg('scope')::text[] is null or tags && sqlc.narg('scope'));

-- name: DatasourceUse :one
select
    (select count(*) from backup_jobs j where j.datasource_id = @id and j.deleted_at is null) as jobs,
    (select count(*) from backup_executions e where e.datasource_id = @id and e.status in ('queued', 'running')) as executions,
    (select count(*) from backup_executions e where e.datasource_id = @id
        and exists (select from backup_copies c where c.execution_id = e.id and c.status = 'available')) as backups;

-- name: DeleteDatasource :exec
update datasources set deleted_at = now(), updated_at = now(), enabled = false, secrets = null, connection_config = '{}', tags = '{}'
where id = @id;

-- name: SetDatasourceCheck :exec
update datasources set status = @status, check_grade = @check_grade, check_streak = @check_streak,
    last_health_check_at = clock_timestamp(), next_check_at = clock_timestamp() + @pause::interval
where id = @id;

-- name: TakeDatasourceChecks :many
-- Those whose turn it is, the longest waiting first. Whoever takes one has until
-- its next turn to check it.
update datasources d set next_check_at = now() + @hold::interval
from (
    select id from datasources
    where enabled and deleted_at is null and next_check_at <= now()
    order by next_check_at
    limit @page_limit::bigint
    for no key update skip locked
) due
where d.id = due.id
returning d.id;
