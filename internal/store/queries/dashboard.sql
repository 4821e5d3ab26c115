-- name: Overview :one
-- Everything a dashboard shows, as of one moment. Nothing here reads more than an
-- index range or a few rows: counts of days come from execution_counts.
select now()::timestamptz as generated_at,
    (select jsonb_build_object(
        'datasources_total', d.total, 'datasources_healthy', d.healthy,
        'jobs_total', j.total, 'jobs_enabled', j.enabled,
        'storages_total', l.total, 'storages_healthy', l.healthy,
        'created_24h', c.total, 'ended_24h', f.total, 'completed_24h', f.completed)
    from (select count(*) as total, count(*) filter (where status = 'healthy') as healthy from datasources where deleted_at is null) d,
        (select count(*) as total, count(*) filter (where enabled) as enabled from backup_jobs where deleted_at is null) j,
        (select count(*) as total, count(*) filter (where status = 'healthy') as healthy from storage_locations where deleted_at is null) l,
        (select count(*) as total from backup_executions where created_at >= now() - interval '24 hours') c,
        (select count(*) as total, count(*) filter (where status = 'completed') as completed
            from backup_executions where finished_at >= now() - interval '24 hours') f
    )::jsonb as stats,
    (select coalesce(jsonb_agg(to_jsonb(x) order by x.created_at desc, x.id desc), '[]')
    from (
        select e.id, d.name as datasource_name, d.type as datasource_type, coalesce(j.name, '') as job_name, e.operation, e.status,
            e.size_bytes, e.stored_bytes, e.started_at, e.finished_at, e.created_at
        from (select id from backup_executions order by created_at desc, id desc limit @recent::bigint) newest
        join backup_executions e on e.id = newest.id
        join datasources d on d.id = e.datasource_id
        left join backup_jobs j on j.id = e.job_id
    ) x)::jsonb as recent,
    (select coalesce(jsonb_agg(to_jsonb(x) order by x.next_execution_at, x.id), '[]')
    from (
        select j.id, j.name, j.schedule_cron, j.schedule_timezone, j.next_execution_at, j.enabled, d.name as datasource_name, d.type as datasource_type
        from (
            select id from backup_jobs where enabled and deleted_at is null and next_execution_at is not null
            order by next_execution_at, id limit @upcoming::bigint
        ) soon
        join backup_jobs j on j.id = soon.id
        join datasources d on d.id = j.datasource_id
    ) x)::jsonb as upcoming,
    (select coalesce(jsonb_agg(to_jsonb(x) order by x.rank, x.name), '[]')
    from (
        select d.id, d.name, d.status, d.last_health_check_at, h.latency_ms, h.status as outcome, worst.rank
        from (values ('critical', 1), ('warning', 2), ('unknown', 3), ('healthy', 4)) as worst (status, rank)
        cross join lateral (
            select c.id, c.name, c.status, c.last_health_check_at from datasources c
            where c.deleted_at is null and c.status = worst.status order by c.name limit @datasources::bigint
        ) d
        left join lateral (
            select n.latency_ms, n.status from health_checks n where n.datasource_id = d.id order by n.checked_at desc, n.id desc limit 1
        ) h on true
        order by worst.rank, d.name
        limit @datasources::bigint
    ) x)::jsonb as datasources,
    (select coalesce(jsonb_agg(jsonb_build_object('day', to_char(x.day, 'YYYY-MM-DD'), 'status', x.status, 'n', x.n)), '[]')
    from (
        select day, status, sum(n) as n from execution_counts where day > (now() at time zone 'utc')::date - @days::int group by 1, 2
    ) x)::jsonb as days,
    (select coalesce(jsonb_agg(to_jsonb(w) order by w.role, w.id), '[]') from worker_instances w where w.expires_at > now())::jsonb as instances;

-- name: OverviewInScope :one
-- The same for a caller with a scope: only what belongs to datasources with one of
-- its tags. Storages are those that the jobs among it write to. Days are counted
-- from the index by datasource, as execution_counts are about all of them.
with mine as materialized (
    select d.id, d.name, d.type, d.status, d.last_health_check_at, d.deleted_at from datasources d where d.tags && @scope::text[]
), jobs as materialized (
    select j.id, j.name, j.enabled, j.storage_location_id, j.backup_options, j.schedule_cron, j.schedule_timezone, j.next_execution_at,
        m.name as datasource_name, m.type as datasource_type
    from backup_jobs j join mine m on m.id = j.datasource_id where j.deleted_at is null
)
select now()::timestamptz as generated_at,
    (select jsonb_build_object(
        'datasources_total', d.total, 'datasources_healthy', d.healthy,
        'jobs_total', j.total, 'jobs_enabled', j.enabled,
        'storages_total', l.total, 'storages_healthy', l.healthy,
        'created_24h', c.total, 'ended_24h', f.total, 'completed_24h', f.completed)
    from (select count(*) as total, count(*) filter (where status = 'healthy') as healthy from mine where deleted_at is null) d,
        (select count(*) as total, count(*) filter (where enabled) as enabled from jobs) j,
        (select count(*) as total, count(*) filter (where status = 'healthy') as healthy from storage_locations l
            where l.deleted_at is null and l.id::text in (
                select jobs.storage_location_id::text from jobs
                union
                select t ->> 'storage_location_id' from jobs, jsonb_array_elements(
                    case when jsonb_typeof(jobs.backup_options -> 'storage_targets') = 'array' then jobs.backup_options -> 'storage_targets' end) t)) l,
        (select count(*) as total from backup_executions
            where created_at >= now() - interval '24 hours' and datasource_id in (select id from mine)) c,
        (select count(*) as total, count(*) filter (where status = 'completed') as completed from backup_executions
            where finished_at >= now() - interval '24 hours' and datasource_id in (select id from mine)) f
    )::jsonb as stats,
    (select coalesce(jsonb_agg(to_jsonb(x) order by x.created_at desc, x.id desc), '[]')
    from (
        select e.id, newest.datasource_name, newest.datasource_type, coalesce(j.name, '') as job_name, e.operation, e.status,
            e.size_bytes, e.stored_bytes, e.started_at, e.finished_at, e.created_at
        from (
            select n.id, m.name as datasource_name, m.type as datasource_type
            from mine m
            cross join lateral (
                select i.id, i.created_at from backup_executions i where i.datasource_id = m.id
                order by i.created_at desc, i.id desc limit @recent::bigint
            ) n
            order by n.created_at desc, n.id desc limit @recent::bigint
        ) newest
        join backup_executions e on e.id = newest.id
        left join backup_jobs j on j.id = e.job_id
    ) x)::jsonb as recent,
    (select coalesce(jsonb_agg(to_jsonb(x) order by x.next_execution_at, x.id), '[]')
    from (
        select id, name, schedule_cron, schedule_timezone, next_execution_at, enabled, datasource_name, datasource_type
        from jobs where enabled and next_execution_at is not null
        order by next_execution_at, id limit @upcoming::bigint
    ) x)::jsonb as upcoming,
    (select coalesce(jsonb_agg(to_jsonb(x) order by x.rank, x.name), '[]')
    from (
        select m.id, m.name, m.status, m.last_health_check_at, h.latency_ms, h.status as outcome, m.rank
        from (
            select id, name, status, last_health_check_at, array_position(array['critical', 'warning', 'unknown', 'healthy'], status) as rank
            from mine where deleted_at is null order by rank, name limit @datasources::bigint
        ) m
        left join lateral (
            select n.latency_ms, n.status from health_checks n where n.datasource_id = m.id order by n.checked_at desc, n.id desc limit 1
        ) h on true
    ) x)::jsonb as datasources,
    (select coalesce(jsonb_agg(jsonb_build_object('day', to_char(x.day, 'YYYY-MM-DD'), 'status', x.status, 'n', x.n)), '[]')
    from (
        select (e.created_at at time zone 'utc')::date as day, e.status, count(*) as n
        from mine m join backup_executions e on e.datasource_id = m.id
        where e.created_at >= date_trunc('day', now(), 'UTC') - (sqlc.arg('days')::int - 1) * interval '1 day'
        group by 1, 2
    ) x)::jsonb as days,
    (select coalesce(jsonb_agg(to_jsonb(w) - 'last_error' order by w.role, w.id), '[]')
    from worker_instances w where w.expires_at > now())::jsonb as instances;

-- name: FoldExecutionCounts :exec
-- Another process that folds at the same time finds nothing left.
with folded as (
    delete from execution_counts
    where day in (select day from execution_counts group by day having count(*) > count(distinct status))
    returning day, status, n
)
insert into execution_counts (day, status, n)
select day, status, sum(n)::bigint from folded group by day, status having sum(n) <> 0;
