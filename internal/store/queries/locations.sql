-- name: CreateLocation :exec
insert into storage_locations (id, name, type, config, secrets, is_default, available_bytes, status)
values (@id, @name, @type, @config, @secrets, @is_default, @available_bytes, @status);

-- name: GetLocation :one
select * from storage_locations where id = @id and deleted_at is null;

-- name: GetDefaultLocation :one
select * from storage_locations where is_default and deleted_at is null;

-- name: LockLocation :one
select * from storage_locations where id = @id and deleted_at is null for update;

-- name: HoldLocation :one
-- Keeps it from being deleted until the end of the transaction.
select id from storage_locations where id = @id and deleted_at is null for key share;

-- name: AnyLocation :one
select exists (select from storage_locations where deleted_at is null);

-- name: ClearDefaultLocation :exec
update storage_locations set is_default = false, updated_at = now() where is_default and deleted_at is null and id <> @id;

-- name: UpdateLocation :exec
update storage_locations set name = @name, type = @type, config = @config, secrets = @secrets, is_default = @is_default,
    available_bytes = @available_bytes, status = @status, updated_at = clock_timestamp(),
    next_check_at = clock_timestamp() -- what was changed is looked at soon
where id = @id;

-- name: ListLocations :many
select * from storage_locations
where deleted_at is null
    and (sqlc.narg('type')::text is null or type = sqlc.narg('type'))
    and (sqlc.narg('status')::text is null or status = sqlc.narg('status'))
order by name
limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountLocations :one
select count(*) from storage_locations
where deleted_at is null
    and (sqlc.narg('type')::text is null or type = sqlc.narg('type'))
    and (sqlc.narg('status')::text is null or status = sqlc.narg('status'));

-- name: LocationUse :one
select
    (select count(*) from backup_jobs j where j.deleted_at is null and (j.storage_location_id = @id
        or j.backup_options -> 'storage_targets' @> jsonb_build_array(jsonb_build_object('storage_location_id', @id::uuid)))) as jobs,
    (select count(*) from backup_executions e where e.status in ('queued', 'running') and (e.storage_location_id = @id
        or e.request #> '{options,storage_targets}' @> jsonb_build_array(jsonb_build_object('storage_location_id', @id::uuid)))) as executions,
    (select count(*) from backup_copies c where c.storage_location_id = @id and c.status = 'available') as backups;

-- name: LocationCopies :one
-- Copies that have objects there, or are getting them.
select count(*) from backup_copies c
join backup_executions e on e.id = c.execution_id
where c.storage_location_id = @id
    and (c.status in ('available', 'missing', 'deleting') or (c.status = 'pending' and e.status = 'running'));

-- name: DeleteLocation :exec
update storage_locations set deleted_at = now(), updated_at = now(), is_default = false, secrets = null, config = '{}'
where id = @id;

-- name: SetLocationStatus :exec
update storage_locations set status = @status, available_bytes = @available_bytes where id = @id;

-- name: SetLocationCheck :exec
update storage_locations set check_grade = @check_grade, check_streak = @check_streak, low_space = @low_space,
    next_check_at = clock_timestamp() + @pause::interval
where id = @id;

-- name: TakeLocationChecks :many
-- As TakeDatasourceChecks.
update storage_locations l set next_check_at = now() + @hold::interval
from (
    select id from storage_locations
    where deleted_at is null and next_check_at <= now()
    order by next_check_at
    limit @page_limit::bigint
    for no key update skip locked
) due
where l.id = due.id
returning l.id;

-- name: CloseCopies :exec
-- The books on what is left in a location that goes: nobody can reach it any more.
update backup_copies set status = 'deleted', error = @error, updated_at = now()
where storage_location_id = @storage_location_id and status <> 'deleted';

-- name: TakeDefaultTurn :exec
select pg_advisory_xact_lock(@key::bigint);
