-- name: GetExecution :one
select sqlc.embed(v), coalesce(e.metadata -> 'execution_logs', '[]')::jsonb as logs
from execution_view v
join backup_executions e on e.id = v.id
where v.id = @id
    and (sqlc.narg('scope')::text[] is null or (select d.tags && sqlc.narg('scope') from datasources d where d.id = e.datasource_id));

-- name: LookAtExecutions :many
select id, status, coalesce((metadata #>> '{execution_logs,-1,seq}')::bigint, 0)::bigint as last_line
from backup_executions
where id = any(cast(@ids::text[] as uuid[]));

-- name: ListExecutions :many
-- The page is found in an index; only its rows are read.
select v.* from execution_view v
where v.id in (
    select e.id from backup_executions e
    where (sqlc.narg('job_id')::uuid is null or e.job_id = sqlc.narg('job_id'))
        and (sqlc.narg('datasource_id')::uuid is null or e.datasource_id = sqlc.narg('datasource_id'))
        and (sqlc.narg('storage_location_id')::uuid is null or e.storage_location_id = sqlc.narg('storage_location_id'))
        and (sqlc.narg('status')::text is null or e.status = sqlc.narg('status'))
        and (sqlc.narg('operation')::text is null or e.operation = sqlc.narg('operation'))
        and (sqlc.narg('from_time')::timestamptz is null or e.created_at >= sqlc.narg('from_time'))
        and (sqlc.narg('to_time')::timestamptz is null or e.created_at < sqlc.narg('to_time'))
        and (sqlc.narg('scope')::text[] is null or e.datasource_id in (select d.id from datasources d where d.tags && sqlc.narg('scope')))
    order by e.created_at desc, e.id desc
    limit @page_limit::bigint offset @page_offset::bigint
)
order by v.created_at desc, v.id desc;

-- name: CountExecutions :one
select count(*) from backup_executions e
where (sqlc.narg('job_id')::uuid is null or e.job_id = sqlc.narg('job_id'))
    and (sqlc.narg('datasource_id')::uuid is null or e.datasource_id = sqlc.narg('datasource_id'))
    and (sqlc.narg('storage_location_id')::uuid is null or e.storage_location_id = sqlc.narg('storage_location_id'))
    and (sqlc.narg('status')::text is null or e.status = sqlc.narg('status'))
    and (sqlc.narg('operation')::text is null or e.operation = sqlc.narg('operation'))
    and (sqlc.narg('from_time')::timestamptz is null or e.created_at >= sqlc.narg('from_time'))
    and (sqlc.narg('to_time')::timestamptz is null or e.created_at < sqlc.narg('to_time'))
        and (sqlc.narg('scope')::text[] is null or e.datasource_id in (select d.id from datasources d where d.tags && sqlc.narg('scope')));

-- name: ListCopies :many
select * from copy_view where execution_id = any(cast(@execution_ids::text[] as uuid[]))
order by execution_id, updated_at, storage_location_id, path;

-- name: ListChunks :many
select * from backup_chunks where execution_id = any(cast(@execution_ids::text[] as uuid[]))
order by execution_id, chunk_number;

-- name: CreateExecution :exec
insert into backup_executions (id, job_id, datasource_id, storage_location_id, source_execution_id, operation, trigger, scheduled_for,
    max_attempts, lock_key, request)
values (@id, @job_id, @datasource_id, @storage_location_id, @source_execution_id, @operation, @trigger, @scheduled_for,
    @max_attempts, @lock_key, @request);

-- name: LockHolder :one
select id from backup_executions where lock_key = @lock_key and status in ('queued', 'running');

-- name: HoldBackup :one
-- Keeps a backup from being marked for deletion until the end of the transaction.
select id from backup_executions where id = @id and operation = 'backup' and status = 'completed' for key share;

-- name: HasCopy :one
select exists (select from backup_copies where execution_id = @execution_id and status in ('available', 'missing'));

-- name: LockExecution :one
select id, status, error_code from backup_executions where id = @id for update;

-- name: CopiesLeft :one
-- Copies whose objects may still be there.
select count(*) from backup_copies where execution_id = @execution_id and status <> 'deleted';

-- name: ActiveReaders :one
select count(*) from backup_executions where source_execution_id = @source_execution_id and status in ('queued', 'running');

-- name: DeleteExecution :exec
delete from backup_executions where id = @id;

-- name: CancelQueued :exec
update backup_executions
set status = 'cancelled', finished_at = now(), cancel_requested_at = now(), error_code = @error_code, error_message = @error_message,
    phase = null, progress = null
where id = @id;

-- name: LockUploadRetry :one
-- Whether the upload of an execution can be tried again, and whether it is being.
select status, operation, job_id, (request ->> 'retry_upload' is not null)::boolean as retrying,
    coalesce((record -> 'upload_retry' ->> 'possible')::boolean, false)::boolean as possible,
    coalesce(record -> 'upload_retry' ->> 'reason', '')::text as reason,
    coalesce((record -> 'upload_retry' ->> 'spool_expires_at')::timestamptz < now(), false)::boolean as expired
from backup_executions where id = @id for update;

-- name: QueueUploadRetry :exec
-- The one door out of a terminal state.
update backup_executions
set status = 'queued', trigger = 'retry', finished_at = null, error_code = null, error_message = null, cancel_requested_at = null,
    attempt = 0, max_attempts = @max_attempts, available_at = now(), worker_id = null, phase = null, progress = null,
    request = request || jsonb_build_object('retry_upload', true, 'spool', record -> 'upload_retry' -> 'spool')
where id = @id;

-- name: EndUploadRetry :exec
-- What has a good copy stays a good backup, however a later upload ended.
update backup_executions e
set status = 'completed', error_code = null, error_message = null
where e.id = @id and e.operation = 'backup' and e.trigger = 'retry' and e.status in ('failed', 'cancelled')
    and exists (select from backup_copies c where c.execution_id = e.id and c.status = 'available');

-- name: CancelRunning :exec
update backup_executions set cancel_requested_at = coalesce(cancel_requested_at, now()) where id = @id;

-- name: ReadExecution :one
select * from execution_view where id = @id;
