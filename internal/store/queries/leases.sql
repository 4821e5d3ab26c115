-- name: ClaimExecution :one
with next as (
    select q.id from backup_executions q
    where q.status = 'queued' and q.operation = any(@operations::text[]) and q.available_at <= now()
        and (q.request ->> 'spool' is null or q.request ->> 'spool' = @spool::text)
    order by q.created_at, q.id
    limit 1
    for update skip locked
)
update backup_executions e
set status = 'running', fence = e.fence + 1, attempt = e.attempt + 1, worker_id = @worker_id,
    started_at = now(), heartbeat_at = now(), lease_expires_at = now() + @lease::interval, phase = null, progress = null
from next
where e.id = next.id
returning e.id;

-- name: TakeClaimTurn :exec
-- Claims within limits take turns until their commit: each sees what the one
-- before it has claimed.
select pg_advisory_xact_lock(@key::bigint);

-- name: ClaimExecutionWithin :one
-- An execution is on its own storage, on every target of a job that replicates, and
-- on those that a backup writes to now because another has failed.
with busy as materialized (
    select e.id, e.storage_location_id, e.operation, e.request, lower(d.connection_config ->> 'host') as host
    from backup_executions e join datasources d on d.id = e.datasource_id
    where e.status = 'running'
), hosts as (
    select host, count(*) as n from busy group by host
), full_storages as materialized (
    select t.id from busy e cross join lateral (
        select e.storage_location_id::text as id where e.storage_location_id is not null
        union
        select t ->> 'storage_location_id' from jsonb_array_elements(
            case when e.operation = 'backup' and e.request -> 'options' ->> 'storage_strategy' = 'replicate' then e.request -> 'options' -> 'storage_targets' end) t
        union
        select c.storage_location_id::text from backup_copies c where c.execution_id = e.id and c.status = 'pending'
    ) t
    where @per_storage::bigint > 0 group by t.id having count(*) >= @per_storage::bigint
), next as (
    select q.id from backup_executions q
    join datasources d on d.id = q.datasource_id
    left join hosts h on h.host = lower(d.connection_config ->> 'host')
    where q.status = 'queued' and q.operation = any(@operations::text[]) and q.available_at <= now()
        and (q.request ->> 'spool' is null or q.request ->> 'spool' = @spool::text)
        and (@per_host::bigint <= 0 or coalesce(h.n, 0) < @per_host::bigint)
        and not exists (select from full_storages f where f.id in (
            select q.storage_location_id::text as id where q.storage_location_id is not null
            union
            select t ->> 'storage_location_id' from jsonb_array_elements(
                case when q.operation = 'backup' and q.request -> 'options' ->> 'storage_strategy' = 'replicate' then q.request -> 'options' -> 'storage_targets' end) t
        ))
    order by q.created_at, q.id
    limit 1
    for update of q skip locked
)
update backup_executions e
set status = 'running', fence = e.fence + 1, attempt = e.attempt + 1, worker_id = @worker_id,
    started_at = now(), heartbeat_at = now(), lease_expires_at = now() + @lease::interval, phase = null, progress = null
from next
where e.id = next.id
returning e.id;

-- name: MarkWaiting :exec
-- Says of queued ones which limit keeps them waiting, when that has changed.
with busy as materialized (
    select e.id, e.storage_location_id, e.operation, e.request, lower(d.connection_config ->> 'host') as host
    from backup_executions e join datasources d on d.id = e.datasource_id
    where e.status = 'running'
), hosts as (
    select host, count(*) as n from busy group by host
), full_storages as materialized (
    select t.id from busy e cross join lateral (
        select e.storage_location_id::text as id where e.storage_location_id is not null
        union
        select t ->> 'storage_location_id' from jsonb_array_elements(
            case when e.operation = 'backup' and e.request -> 'options' ->> 'storage_strategy' = 'replicate' then e.request -> 'options' -> 'storage_targets' end) t
        union
        select c.storage_location_id::text from backup_copies c where c.execution_id = e.id and c.status = 'pending'
    ) t
    where @per_storage::bigint > 0 group by t.id having count(*) >= @per_storage::bigint
), waiting as (
    select q.id, case
        when @per_host::bigint > 0 and coalesce(h.n, 0) >= @per_host::bigint then 'waiting_for_host'
        when exists (select from full_storages f where f.id in (
            select q.storage_location_id::text as id where q.storage_location_id is not null
            union
            select t ->> 'storage_location_id' from jsonb_array_elements(
                case when q.operation = 'backup' and q.request -> 'options' ->> 'storage_strategy' = 'replicate' then q.request -> 'options' -> 'storage_targets' end) t
        )) then 'waiting_for_storage'
        end as phase
    from backup_executions q
    join datasources d on d.id = q.datasource_id
    left join hosts h on h.host = lower(d.connection_config ->> 'host')
    where q.status = 'queued' and q.operation = any(@operations::text[]) and q.available_at <= now()
    order by q.created_at, q.id
    limit 1000
    for update of q skip locked
)
update backup_executions e
set phase = w.phase, progress = case when w.phase is null then null else jsonb_build_object('phase', w.phase) end
from waiting w
where e.id = w.id and e.phase is distinct from w.phase;

-- name: Heartbeat :one
update backup_executions
set heartbeat_at = now(), lease_expires_at = now() + @lease::interval, phase = @phase, progress = @progress
where id = @id and fence = @fence and worker_id = @worker_id and status = 'running'
returning (cancel_requested_at is not null)::boolean as cancel;

-- name: SaveLogs :execrows
update backup_executions
set metadata = jsonb_set(metadata, '{execution_logs}', @logs)
where id = @id and fence = @fence and worker_id = @worker_id and status = 'running';

-- name: HoldLease :one
-- Keeps the lease until the end of the transaction.
select id from backup_executions
where id = @id and fence = @fence and worker_id = @worker_id and status = 'running'
for no key update;

-- name: BeginCopy :execrows
insert into backup_copies (execution_id, storage_location_id, path, fence, status)
values (@execution_id, @storage_location_id, @path, @fence, 'pending')
on conflict (execution_id, storage_location_id, path) do update
set fence = excluded.fence, status = 'pending', error = '', updated_at = now()
where backup_copies.status in ('pending', 'failed', 'deleted');

-- name: FinishExecution :execrows
update backup_executions
set status = @status, finished_at = now(), lease_expires_at = null, error_code = @error_code, error_message = @error_message,
    size_bytes = @size_bytes, stored_bytes = @stored_bytes, backup_path = @backup_path, parts_count = @parts_count,
    phase = @phase, progress = @progress, metadata = @metadata
where id = @id and fence = @fence and worker_id = @worker_id and status = 'running';

-- name: SettleCopies :exec
insert into backup_copies (execution_id, storage_location_id, path, fence, status, error)
select @execution_id, x.storage_location_id, x.path, @fence, x.status, x.error
from (select unnest(cast(@storage_location_ids::text[] as uuid[])) as storage_location_id, unnest(@paths::text[]) as path,
    unnest(@statuses::text[]) as status, unnest(@errors::text[]) as error) x
on conflict (execution_id, storage_location_id, path) do update
set fence = excluded.fence, status = excluded.status, error = excluded.error, updated_at = now()
where backup_copies.status in ('pending', 'failed', 'available', 'deleted');

-- name: DeleteChunks :exec
delete from backup_chunks where execution_id = @execution_id;

-- name: CreateChunks :exec
insert into backup_chunks (execution_id, chunk_number, file_path, size_bytes, checksum)
select @execution_id, unnest(@numbers::bigint[]), unnest(@paths::text[]), unnest(@sizes::bigint[]), unnest(@checksums::text[]);

-- name: SetVerified :exec
update backup_executions set verified_at = now() where id = @id and operation = 'backup' and status = 'completed';

-- name: ReleaseExecution :one
-- A cancelled one does not go back: nobody would tell its next worker. Ready from
-- the next full second on at the earliest, so that no two attempts start in one.
update backup_executions
set status = case when cancel_requested_at is null then 'queued' else 'cancelled' end,
    finished_at = case when cancel_requested_at is null then null else now() end,
    error_code = case when cancel_requested_at is null then null else @cancel_code::text end,
    error_message = case when cancel_requested_at is null then null else @cancel_message::text end,
    started_at = case when cancel_requested_at is null then null else started_at end,
    attempt = case when @burn::boolean then attempt else greatest(attempt - 1, 0) end,
    available_at = greatest(now() + @delay::interval, date_trunc('second', now()) + interval '1 second'),
    worker_id = null, lease_expires_at = null, heartbeat_at = null, phase = null, progress = null,
    metadata = jsonb_set(metadata, '{execution_logs}', @logs)
where id = @id and fence = @fence and worker_id = @worker_id and status = 'running'
returning status;

-- name: ListExpired :many
-- A retried upload is stranded when the spool that has its dump has had no backup
-- worker for long, or when the time is over for which the dump was kept. Workers of
-- earlier versions do not tell their spool: their host stands for it.
select sqlc.embed(v), coalesce(e.metadata -> 'execution_logs', '[]')::jsonb as logs
from execution_view v
join backup_executions e on e.id = v.id
where e.status in ('queued', 'running') and (
    e.status = 'running' and e.lease_expires_at < now()
    or e.status = 'queued' and e.request ->> 'spool' is not null and (
        (e.record -> 'upload_retry' ->> 'spool_expires_at')::timestamptz < now()
        or e.available_at < now() - @stranded::interval and not exists (
            select from worker_instances w
            where w.role = 'backup' and w.expires_at > now() and (w.spool = e.request ->> 'spool'
                or w.spool = '' and w.host = e.record ->> 'worker_host'))))
order by e.lease_expires_at, e.id
limit @page_limit::bigint;

-- name: LockExpired :one
select status, attempt, max_attempts, operation, cancel_requested_at, coalesce(record ->> 'worker_host', '')::text as worker_host,
    exists (select from restore_leftovers l where l.execution_id = backup_executions.id) as touched
from backup_executions
where id = @id and fence = @fence
    and (status = 'running' and lease_expires_at < now() or status = 'queued' and request ->> 'spool' is not null)
for update;

-- name: RequeueExpired :exec
update backup_executions
set status = 'queued', started_at = null, available_at = now() + interval '1 second',
    worker_id = null, lease_expires_at = null, heartbeat_at = null, phase = null, progress = null,
    metadata = jsonb_set(metadata, '{execution_logs}', @logs)
where id = @id;

-- name: EndExpired :exec
update backup_executions
set status = @status, finished_at = now(), lease_expires_at = null, error_code = @error_code, error_message = @error_message,
    metadata = jsonb_set(metadata, '{execution_logs}', @logs)
where id = @id;
