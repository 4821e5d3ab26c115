-- name: ChangeHorizon :one
select change_horizon()::timestamptz as horizon;

-- name: ListChanged :many
select sqlc.embed(v), e.changed_at::timestamptz as changed_at, d.tags
from execution_view v
join backup_executions e on e.id = v.id
join datasources d on d.id = e.datasource_id
where (e.changed_at, e.id) > (@after_time::timestamptz, @after_id::uuid)
    and (sqlc.narg('scope')::text[] is null or d.tags && sqlc.narg('scope'))
order by e.changed_at, e.id
limit @page_limit::bigint;

-- name: ListActive :many
select sqlc.embed(v), coalesce(e.changed_at, e.created_at)::timestamptz as changed_at, d.tags
from execution_view v
join backup_executions e on e.id = v.id
join datasources d on d.id = e.datasource_id
where e.status in ('queued', 'running') and (e.created_at, e.id) > (@after_time::timestamptz, @after_id::uuid)
    and (sqlc.narg('scope')::text[] is null or d.tags && sqlc.narg('scope'))
order by e.created_at, e.id
limit @page_limit::bigint;

-- name: ListTagged :many
select id, tags from datasources where tags && @tags::text[];
