-- name: TakeNotificationTurn :exec
-- Writers of notifications take turns until their commit, so that seq is the
-- order in which readers see them. It is the last lock a transaction takes.
select pg_advisory_xact_lock(@key::bigint);

-- name: CreateNotifications :exec
-- With a delivery for every channel that wants it.
with made as (
    insert into notifications (type, severity, entity_type, entity_id, title, message, metadata)
    select unnest(@types::text[]), unnest(@severities::text[]), unnest(@entity_types::text[]), unnest(@entity_ids::text[]),
        unnest(@titles::text[]), unnest(@messages::text[]), nullif(unnest(@metadata::text[]), '')::jsonb
    returning id, seq, type, severity
), ranks as (
    select array['info', 'warning', 'critical'] as severities
)
insert into notification_deliveries (channel_id, notification_id, seq)
select c.id, made.id, made.seq
from made
cross join ranks r
join notification_channels c on c.enabled
    and (c.types = '{}' or made.type = any(c.types))
    and array_position(r.severities, made.severity) >= array_position(r.severities, c.min_severity);

-- name: ListNotifications :many
-- What belongs to a scope is looked up once, not for every notification.
select *
from notifications
where (sqlc.narg('read')::boolean is null or (read_at is not null) = sqlc.narg('read'))
    and (sqlc.narg('severity')::text is null or severity = sqlc.narg('severity'))
    and (sqlc.narg('type')::text is null or type = sqlc.narg('type'))
    and (sqlc.narg('scope')::text[] is null or (entity_type, entity_id) in (
        select 'datasource', d.id::text from datasources d where d.tags && sqlc.narg('scope')
        union all
        select 'backup_job', j.id::text from backup_jobs j join datasources d on d.id = j.datasource_id where d.tags && sqlc.narg('scope')))
order by seq desc
limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountNotifications :one
select count(*) from notifications
where (sqlc.narg('read')::boolean is null or (read_at is not null) = sqlc.narg('read'))
    and (sqlc.narg('severity')::text is null or severity = sqlc.narg('severity'))
    and (sqlc.narg('type')::text is null or type = sqlc.narg('type'))
    and (sqlc.narg('scope')::text[] is null or (entity_type, entity_id) in (
        select 'datasource', d.id::text from datasources d where d.tags && sqlc.narg('scope')
        union all
        select 'backup_job', j.id::text from backup_jobs j join datasources d on d.id = j.datasource_id where d.tags && sqlc.narg('scope')));

-- name: CountUnreadNotifications :one
select count(*) from notifications where read_at is null
    and (sqlc.narg('scope')::text[] is null or (entity_type, entity_id) in (
        select 'datasource', d.id::text from datasources d where d.tags && sqlc.narg('scope')
        union all
        select 'backup_job', j.id::text from backup_jobs j join datasources d on d.id = j.datasource_id where d.tags && sqlc.narg('scope')));

-- name: MarkNotificationRead :one
update notifications set read_at = coalesce(read_at, now()) where id = @id
returning *;

-- name: MarkAllNotificationsRead :execrows
update notifications set read_at = now() where read_at is null;

-- name: DeleteNotification :execrows
delete from notifications where id = @id;

-- name: LastNotificationSeq :one
select coalesce(max(seq), 0)::bigint as seq from notifications;

-- name: LastNotificationSeqInScope :one
-- From the newest one on: the first that is in the scope ends the search.
select coalesce((
    select n.seq
    from notifications n
    where ((n.entity_type, n.entity_id) in (
        select 'datasource', d.id::text from datasources d where d.tags && @scope::text[]
        union all
        select 'backup_job', j.id::text from backup_jobs j join datasources d on d.id = j.datasource_id where d.tags && @scope)) is true
    order by n.seq desc
    limit 1), 0)::bigint as seq;

-- name: NotificationsAfter :many
select *
from notifications
where notifications.seq > @seq
    and (sqlc.narg('scope')::text[] is null or (entity_type, entity_id) in (
        select 'datasource', d.id::text from datasources d where d.tags && sqlc.narg('scope')
        union all
        select 'backup_job', j.id::text from backup_jobs j join datasources d on d.id = j.datasource_id where d.tags && sqlc.narg('scope')))
order by notifications.seq limit @page_limit::bigint;

-- name: PruneNotifications :execrows
-- A part of those that are older, so that no statement takes long. Their deliveries
-- go with them.
delete from notifications where id in (
    select n.id from notifications n where n.created_at < clock_timestamp() - @age::interval order by n.created_at limit @page_limit::bigint
);
