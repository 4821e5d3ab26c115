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

-- name: FoldExecutionCounts :exec
-- Another process that folds at the same time finds nothing left.
with folded as (
    delete from execution_counts
    where day in (select day from execution_counts group by day having count(*) > count(distinct status))
    returning day, status, n
)
insert into execution_counts (day, status, n)
select day, status, sum(n)::bigint from folded group by day, status having sum(n) <> 0;
