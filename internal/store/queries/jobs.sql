-- name: CreateJob :exec
insert into backup_jobs (id, name, datasource_id, storage_location_id, schedule_cron, schedule_timezone, enabled,
    retention_policy, backup_options, next_execution_at)
values (@id, @name, @datasource_id, @storage_location_id, @schedule_cron, @schedule_timezone, @enabled,
    @retention_policy, @backup_options, @next_execution_at);

-- name: GetJob :one
select * from job_view where id = @id;

-- name: LockJob :one
select id from backup_jobs where id = @id and deleted_at is null for update;

-- name: HoldJob :one
-- Keeps it from being deleted, and from being taken by a scheduler, until the
-- end of the transaction.
select id from backup_jobs where id = @id and deleted_at is null for key share;

-- name: UpdateJob :exec
update backup_jobs set name = @name, datasource_id = @datasource_id, storage_location_id = @storage_location_id,
    schedule_cron = @schedule_cron, schedule_timezone = @schedule_timezone, enabled = @enabled,
    retention_policy = @retention_policy, backup_options = @backup_options, next_execution_at = @next_execution_at, updated_at = clock_timestamp()
where id = @id;

-- name: ListJobs :many
select v.* from job_view v
where v.id in (
    select j.id from backup_jobs j
    where j.deleted_at is null
        and (sqlc.narg('enabled')::boolean is null or j.enabled = sqlc.narg('enabled'))
        and (sqlc.narg('datasource_id')::uuid is null or j.datasource_id = sqlc.narg('datasource_id'))
        and (sqlc.narg('storage_location_id')::uuid is null or j.storage_location_id = sqlc.narg('storage_location_id'))
        and (sqlc.narg('scope')::text[] is null or j.datasource_id in (select d.id from datasources d where d.tags && sqlc.narg('scope')))
    order by j.name
    limit @page_limit::bigint offset @page_offset::bigint
)
order by v.name;

-- name: CountJobs :one
select count(*) from backup_jobs j
where j.deleted_at is null
    and (sqlc.narg('enabled')::boolean is null or j.enabled = sqlc.narg('enabled'))
    and (sqlc.narg('datasource_id')::uuid is null or j.datasource_id = sqlc.narg('datasource_id'))
    and (sqlc.narg('storage_location_id')::uuid is null or j.storage_location_id = sqlc.narg('storage_location_id'))
        and (sqlc.narg('scope')::text[] is null or j.datasource_id in (select d.id from datasources d where d.tags && sqlc.narg('scope')));

-- name: LastExecutions :many
-- The newest backup run of each job.
select j.id::uuid as job_id, e.id, e.status, e.created_at, e.started_at, e.finished_at, e.size_bytes, e.error_message
from unnest(cast(@job_ids::text[] as uuid[])) as j (id)
cross join lateral (
    select x.id, x.status, x.created_at, x.started_at, x.finished_at, x.size_bytes, x.error_message
    from backup_executions x
    where x.job_id = j.id and x.operation = 'backup'
    order by x.created_at desc, x.id desc
    limit 1
) e;

-- name: ActiveExecutionOfJob :one
select id from backup_executions where job_id = @job_id and status in ('queued', 'running') limit 1;

-- name: DeleteJob :exec
update backup_jobs set deleted_at = now(), updated_at = now(), enabled = false, next_execution_at = null where id = @id;

-- name: LockDueJobs :many
select sqlc.embed(v), now()::timestamptz as now from backup_jobs j
join job_view v on v.id = j.id
where j.enabled and j.deleted_at is null and j.next_execution_at <= now()
order by j.next_execution_at, j.id
limit @page_limit::bigint
for update of j skip locked;

-- name: QueueSlot :execrows
insert into backup_executions (id, job_id, datasource_id, storage_location_id, operation, trigger, scheduled_for, max_attempts, lock_key, request)
values (@id, @job_id, @datasource_id, @storage_location_id, 'backup', 'schedule', @scheduled_for, @max_attempts, @lock_key, @request)
on conflict do nothing;

-- name: QueueSlots :batchexec
insert into backup_executions (id, job_id, datasource_id, storage_location_id, operation, trigger, scheduled_for, max_attempts, lock_key, request)
values (@id, @job_id, @datasource_id, @storage_location_id, 'backup', 'schedule', @scheduled_for, @max_attempts, @lock_key, @request);

-- name: BusyJobs :many
-- Those of the jobs that have an execution which is not over, or one for the slot
-- that is due.
select j.id, exists (select from backup_executions e where e.job_id = j.id and e.scheduled_for = j.next_execution_at) as taken,
    exists (select from backup_executions e where e.lock_key = l.lock_key and e.status in ('queued', 'running')) as busy
from (select unnest(cast(@ids::text[] as uuid[])) as id, unnest(@lock_keys::text[]) as lock_key) l
join backup_jobs j on j.id = l.id;

-- name: SetNextExecution :batchexec
update backup_jobs set next_execution_at = @next_execution_at where id = @id;
