-- name: ReportInstance :batchexec
insert into worker_instances (id, role, host, pid, spool, state, last_started_at, last_finished_at, last_error, expires_at)
values (@id, @role, @host, @pid, @spool, @state, @last_started_at, @last_finished_at, @last_error, now() + @ttl::interval)
on conflict (id) do update
set role = excluded.role, host = excluded.host, pid = excluded.pid, spool = excluded.spool, state = excluded.state, last_started_at = excluded.last_started_at,
    last_finished_at = excluded.last_finished_at, last_error = excluded.last_error, expires_at = excluded.expires_at;

-- name: RemoveGoneInstances :exec
delete from worker_instances
where id in (select w.id from worker_instances w where w.expires_at < now() - interval '1 hour' for update skip locked);

-- name: WithdrawInstances :exec
delete from worker_instances where id = any(@ids::text[]);

-- name: ListInstances :many
select * from worker_instances where expires_at > now() order by role, id;

-- name: Stats :one
with today as (
    select coalesce(sum(c.n), 0)::bigint as total, coalesce(sum(c.n) filter (where c.status = 'failed'), 0)::bigint as failed
    from execution_counts c
    where c.day = (now() at time zone 'utc')::date
)
select d.total as datasources_total, d.healthy as datasources_healthy, d.critical as datasources_critical,
    j.total as jobs_total, j.enabled as jobs_enabled, t.total as executions_today, t.failed as executions_failed_today,
    o.pending as notifications_pending, o.stuck as notifications_stuck
from today t,
    (select count(*) as pending, count(*) filter (where w.created_at < now() - interval '15 minutes') as stuck
        from notification_deliveries w join notification_channels c on c.id = w.channel_id
        where w.status = 'pending' and c.enabled) o,
    (select count(*) as total, count(*) filter (where status = 'healthy') as healthy, count(*) filter (where status = 'critical') as critical
        from datasources where deleted_at is null) d,
    (select count(*) as total, count(*) filter (where enabled) as enabled from backup_jobs where deleted_at is null) j;

-- name: StatsInScope :one
-- Executions are counted from the index by datasource: execution_counts are about all.
with mine as materialized (
    select d.id, d.status, d.deleted_at from datasources d where d.tags && @scope::text[]
)
select d.total as datasources_total, d.healthy as datasources_healthy, d.critical as datasources_critical,
    j.total as jobs_total, j.enabled as jobs_enabled, t.total as executions_today, t.failed as executions_failed_today,
    0::bigint as notifications_pending, 0::bigint as notifications_stuck
from (select count(*) as total, count(*) filter (where e.status = 'failed') as failed
        from mine m join backup_executions e on e.datasource_id = m.id
        where e.created_at >= date_trunc('day', now(), 'UTC')) t,
    (select count(*) as total, count(*) filter (where status = 'healthy') as healthy, count(*) filter (where status = 'critical') as critical
        from mine where deleted_at is null) d,
    (select count(*) as total, count(*) filter (where enabled) as enabled
        from backup_jobs where deleted_at is null and datasource_id in (select id from mine)) j;

-- name: CreateDatasourceCheck :exec
insert into health_checks (id, datasource_id, status, latency_ms, error_message, metadata)
values (coalesce(sqlc.narg('id')::uuid, gen_random_uuid()), @datasource_id, @status, @latency_ms, @error_message, @metadata);

-- name: CreateStorageCheck :exec
insert into storage_health_checks (id, storage_location_id, status, latency_ms, available_bytes, error_message, metadata)
values (coalesce(sqlc.narg('id')::uuid, gen_random_uuid()), @storage_location_id, @status, @latency_ms, @available_bytes, @error_message, @metadata);

-- name: ListDatasourceChecks :many
select sqlc.embed(h), d.name as entity_name, d.type as entity_type from health_checks h
join datasources d on d.id = h.datasource_id
where (sqlc.narg('entity_id')::uuid is null or h.datasource_id = sqlc.narg('entity_id'))
    and (sqlc.narg('from_time')::timestamptz is null or h.checked_at >= sqlc.narg('from_time'))
    and (sqlc.narg('to_time')::timestamptz is null or h.checked_at < sqlc.narg('to_time'))
    and (sqlc.narg('scope')::text[] is null or h.datasource_id in (select d.id from datasources d where d.tags && sqlc.narg('scope')))
order by h.checked_at desc, h.id desc
limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountDatasourceChecks :one
select count(*) from health_checks h
where (sqlc.narg('entity_id')::uuid is null or h.datasource_id = sqlc.narg('entity_id'))
    and (sqlc.narg('from_time')::timestamptz is null or h.checked_at >= sqlc.narg('from_time'))
    and (sqlc.narg('to_time')::timestamptz is null or h.checked_at < sqlc.narg('to_time'))
    and (sqlc.narg('scope')::text[] is null or h.datasource_id in (select d.id from datasources d where d.tags && sqlc.narg('scope')));

-- name: ListStorageChecks :many
select sqlc.embed(h), l.name as entity_name, l.type as entity_type from storage_health_checks h
join storage_locations l on l.id = h.storage_location_id
where (sqlc.narg('entity_id')::uuid is null or h.storage_location_id = sqlc.narg('entity_id'))
    and (sqlc.narg('from_time')::timestamptz is null or h.checked_at >= sqlc.narg('from_time'))
    and (sqlc.narg('to_time')::timestamptz is null or h.checked_at < sqlc.narg('to_time'))
order by h.checked_at desc, h.id desc
limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountStorageChecks :one
select count(*) from storage_health_checks h
where (sqlc.narg('entity_id')::uuid is null or h.storage_location_id = sqlc.narg('entity_id'))
    and (sqlc.narg('from_time')::timestamptz is null or h.checked_at >= sqlc.narg('from_time'))
    and (sqlc.narg('to_time')::timestamptz is null or h.checked_at < sqlc.narg('to_time'));

-- name: PruneDatasourceChecks :execrows
delete from health_checks where checked_at < now() - @age::interval;

-- name: PruneStorageChecks :execrows
delete from storage_health_checks where checked_at < now() - @age::interval;

-- name: QueueGauges :many
select operation, count(*) filter (where status = 'queued') as queued, count(*) filter (where status = 'running') as running,
    coalesce(extract(epoch from now() - min(greatest(created_at, available_at)) filter (where status = 'queued')), 0)::float8 as oldest_seconds
from backup_executions where status in ('queued', 'running') group by operation order by operation;

-- name: StorageGauges :many
select name, status, available_bytes from storage_locations where deleted_at is null order by name;

-- name: OutboxGauges :many
-- What waits for enabled channels, by their type.
select c.type, coalesce(sum(w.waiting), 0)::bigint as pending, coalesce(extract(epoch from now() - min(w.oldest)), 0)::float8 as oldest_seconds
from notification_channels c
left join lateral (
    select count(*) as waiting, min(d.created_at) as oldest from notification_deliveries d where d.channel_id = c.id and d.status = 'pending'
) w on true
where c.enabled
group by c.type order by c.type;

-- name: JobGauges :many
select j.name, d.name as datasource, j.created_at, coalesce(last.finished_at, j.created_at)::timestamptz as last_success, (last.finished_at is not null)::boolean as succeeded
from (select id, name, datasource_id, created_at from backup_jobs where enabled and deleted_at is null order by name limit @page_limit::bigint) j
join datasources d on d.id = j.datasource_id
left join lateral (
    select e.finished_at from backup_executions e
    where e.job_id = j.id and e.status = 'completed' and e.operation = 'backup'
    order by e.created_at desc, e.id desc limit 1
) last on true
order by j.name;
