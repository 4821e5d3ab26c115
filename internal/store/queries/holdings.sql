-- name: HoldingsAt :many
-- Copies with objects at a path, below it, or in whose folder it lies.
select c.execution_id, c.path, c.status, e.created_at, d.name as datasource_name, coalesce(j.name, '') as job_name, count(*) over () as total
from backup_copies c
join backup_executions e on e.id = c.execution_id
join datasources d on d.id = e.datasource_id
left join backup_jobs j on j.id = e.job_id
where c.storage_location_id = @storage_location_id
    and (c.status in ('available', 'missing') or (c.status = 'pending' and e.status = 'running' and e.fence = c.fence))
    and (c.path = @at::text or left(c.path, length(@at) + 1) = @at || '/' or left(@at, length(c.path) + 1) = c.path || '/')
order by (c.status = 'pending') desc, e.created_at desc, c.execution_id
limit @page_limit::bigint;

-- name: LoseAt :execrows
-- A file in the folder of a copy is part of it when it is the manifest or a part.
update backup_copies c
set status = 'missing', error = @error, updated_at = now()
where c.storage_location_id = @storage_location_id and c.status = 'available'
    and (c.path = @at::text or left(c.path, length(@at) + 1) = @at || '/' or @at = c.path || '/manifest.json'
        or (left(@at, length(c.path) + 1) = c.path || '/' and exists (select from backup_chunks k
            cross join lateral (select c.path || '/' || regexp_replace(k.file_path, '^.*/', '') as key) p
            where k.execution_id = c.execution_id and (p.key = @at or left(p.key, length(@at) + 1) = @at || '/'))));
