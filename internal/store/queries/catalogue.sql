-- name: BackupDatasources :many
select d.id, d.name, d.type, d.status, d.enabled, d.updated_at, coalesce(b.backups, 0)::bigint as backups, coalesce(b.newest, 'epoch')::timestamptz as newest
from datasources d
left join (
    select e.datasource_id, count(*) as backups, max(e.created_at) as newest
    from backup_executions e
    where e.operation = 'backup' and e.status = 'completed'
        and exists (select from backup_copies c where c.execution_id = e.id and c.status in ('available', 'missing'))
    group by e.datasource_id
) b on b.datasource_id = d.id
where d.deleted_at is null
    and (sqlc.narg('scope')::text[] is null or d.tags && sqlc.narg('scope'))
order by d.name;

-- name: BackupsOfDatasource :many
select v.* from execution_view v
where v.datasource_id = @datasource_id and v.operation = 'backup' and v.status = 'completed'
    and exists (select from backup_copies c where c.execution_id = v.id and c.status in ('available', 'missing'))
order by v.created_at desc, v.id desc;

-- name: BackupsOfJob :many
select v.* from execution_view v
where v.job_id = @job_id and v.operation = 'backup' and v.status = 'completed'
    and exists (select from backup_copies c where c.execution_id = v.id and c.status = 'available')
order by v.created_at desc, v.id desc;

-- name: GetBackup :one
select v.* from execution_view v
where v.id = @id and v.operation = 'backup' and v.status = 'completed'
    and exists (select from backup_copies c where c.execution_id = v.id and c.status in ('available', 'missing'));

-- name: LockBackups :many
select id from backup_executions
where id = any(cast(@ids::text[] as uuid[])) and operation = 'backup' and status = 'completed'
order by id
for update;

-- name: MarkDeleting :many
-- Runs after LockBackups in one transaction: nobody can begin to read them now.
update backup_copies c
set status = 'deleting', error = '', given_up = false, updated_at = now()
where c.execution_id = any(cast(@ids::text[] as uuid[])) and c.status in ('available', 'missing')
    and not exists (select from backup_executions r where r.source_execution_id = c.execution_id and r.status in ('queued', 'running'))
returning c.execution_id;

-- name: DoomCopies :exec
-- Marks first: a copy that is on its way out is not begun again. What an execution
-- that is queued or running has begun is its next attempt's to go on with or to
-- remove; so is what a retried upload may still complete. Of one that completed there is
-- another copy: what an earlier attempt of it has left goes though it be whole.
update backup_copies c
set status = 'deleting', given_up = e.status <> 'completed', updated_at = now()
from backup_executions e
where e.id = c.execution_id and c.status in ('pending', 'failed') and e.status not in ('queued', 'running')
    and not (coalesce((e.record -> 'upload_retry' ->> 'possible')::boolean, false)
        and coalesce((e.record -> 'upload_retry' ->> 'spool_expires_at')::timestamptz > now(), false))
    and (sqlc.narg('location_ids')::text[] is null or c.storage_location_id = any(cast(sqlc.narg('location_ids')::text[] as uuid[])));

-- name: DoomedCopies :many
select v.* from copy_view v
where v.status = 'deleting'
    and (sqlc.narg('location_ids')::text[] is null or v.storage_location_id = any(cast(sqlc.narg('location_ids')::text[] as uuid[])))
order by v.updated_at, v.execution_id
limit @page_limit::bigint;

-- name: MarkDeleted :execrows
update backup_copies c
set status = 'deleted', error = '', updated_at = now()
from backup_executions e
where e.id = c.execution_id
    and c.execution_id = @execution_id and c.storage_location_id = @storage_location_id and c.path = @path
    and c.status in ('pending', 'failed', 'deleting', 'deleted')
    and (c.status <> 'pending' or e.status <> 'running' or e.fence <> c.fence);

-- name: ReleaseCopy :execrows
-- A copy that was never available, and is no longer being written.
delete from backup_copies c
using backup_executions e
where e.id = c.execution_id
    and c.execution_id = @execution_id and c.storage_location_id = @storage_location_id and c.path = @path
    and (c.status in ('pending', 'failed') or (c.status = 'deleting' and c.given_up))
    and (c.status <> 'pending' or e.status <> 'running' or e.fence <> c.fence);

-- name: AddLine :exec
-- The log of one that has ended only grows. Runs after LockExecution.
update backup_executions
set metadata = jsonb_set(metadata, '{execution_logs}', coalesce(metadata -> 'execution_logs', '[]') || jsonb_build_array(@line::jsonb))
where id = @id and status in ('completed', 'failed', 'cancelled');

-- name: MarkMissing :execrows
update backup_copies
set status = 'missing', error = @error, updated_at = now()
where execution_id = @execution_id and storage_location_id = @storage_location_id and path = @path and status = 'available';

-- name: MarkMissingStill :execrows
update backup_copies
set error = @error, updated_at = now()
where execution_id = @execution_id and storage_location_id = @storage_location_id and path = @path and status = 'missing';

-- name: MarkFound :execrows
update backup_copies
set status = 'available', error = '', updated_at = now()
where execution_id = @execution_id and storage_location_id = @storage_location_id and path = @path and status in ('available', 'missing');

-- name: NoteDeleteFailure :execrows
update backup_copies
set error = @error, updated_at = now()
where execution_id = @execution_id and storage_location_id = @storage_location_id and path = @path
    and status in ('pending', 'failed', 'deleting');

-- name: Now :one
select clock_timestamp()::timestamptz as now;

-- name: CopiesAt :many
select v.* from copy_view v
where v.storage_location_id = @storage_location_id and v.status <> 'deleted' and v.execution_id > @after_id
order by v.execution_id, v.path
limit @page_limit::bigint;
