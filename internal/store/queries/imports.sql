-- name: ImportExecution :execrows
insert into backup_executions (id, datasource_id, storage_location_id, operation, status, trigger, started_at, finished_at, size_bytes, stored_bytes,
    backup_path, parts_count, attempt, max_attempts, request, metadata, created_at)
values (@id, @datasource_id, @storage_location_id, 'backup', 'completed', 'manual', @started_at, @finished_at, @size_bytes, @stored_bytes,
    @backup_path, @parts_count, 1, 1, '{}', @metadata, @created_at)
on conflict (id) do nothing;

-- name: CompleteImported :exec
-- The records know how an attempt ended, the manifest how another did. Runs after LockExecution.
update backup_executions
set status = 'completed', started_at = @started_at, finished_at = @finished_at, size_bytes = @size_bytes, stored_bytes = @stored_bytes,
    backup_path = @backup_path, parts_count = @parts_count, error_code = null, error_message = null, phase = null, progress = null, metadata = @metadata
where id = @id and operation = 'backup' and status in ('failed', 'cancelled');

-- name: LeaveJob :exec
-- A backup that had been removed from every storage and is back is kept now by no policy.
update backup_executions e set job_id = null
where e.id = @id and not exists (select from backup_copies c where c.execution_id = e.id and c.status <> 'deleted');

-- name: ImportCopy :exec
insert into backup_copies (execution_id, storage_location_id, path, fence, status)
values (@execution_id, @storage_location_id, @path, 0, 'available')
on conflict (execution_id, storage_location_id, path) do update set status = 'available', error = '', updated_at = now()
where backup_copies.status = 'deleted';

-- name: OwnerOf :one
select d.id from backup_executions e join datasources d on d.id = e.datasource_id where e.id = @id and d.deleted_at is null;

-- name: AdoptExecution :exec
-- What belongs to a datasource that was deleted gets one that is there.
update backup_executions e set datasource_id = @datasource_id
from datasources d
where e.id = @id and d.id = e.datasource_id and d.deleted_at is not null;
