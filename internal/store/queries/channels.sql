-- name: CreateChannel :exec
insert into notification_channels (id, name, type, config, secrets, types, min_severity, enabled, max_per_hour)
values (@id, @name, @type, @config, @secrets, @types, @min_severity, @enabled, @max_per_hour);

-- name: GetChannel :one
select * from notification_channels where id = @id;

-- name: LockChannel :one
select * from notification_channels where id = @id for update;

-- name: UpdateChannel :exec
update notification_channels set name = @name, config = @config, secrets = @secrets, types = @types, min_severity = @min_severity,
    enabled = @enabled, max_per_hour = @max_per_hour, paused_until = null, failures = 0, updated_at = clock_timestamp()
where id = @id;

-- name: HurryDeliveries :exec
-- What waits for a channel is tried at once.
update notification_deliveries set next_attempt_at = clock_timestamp() where channel_id = @channel_id and status = 'pending';

-- name: DeleteChannel :execrows
delete from notification_channels where id = @id;

-- name: CountChannels :one
select count(*) from notification_channels;

-- name: ListChannels :many
select * from notification_channels order by name
limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountWaiting :many
-- Deliveries that wait, by channel.
select channel_id, count(*) as waiting from notification_deliveries
where status = 'pending' and channel_id = any(@channels::uuid[])
group by channel_id;

-- name: LastDeliveries :many
-- The newest delivery that was tried, by channel.
select sqlc.embed(d), n.type, n.severity, n.title
from notification_deliveries d
join notifications n on n.id = d.notification_id
where d.id in (
    select (
        select t.id from notification_deliveries t where t.channel_id = c.id and t.attempted_at is not null
        order by t.attempted_at desc limit 1
    )
    from notification_channels c where c.id = any(@channels::uuid[])
);

-- name: CountDeliveries :one
select count(*) from notification_deliveries
where channel_id = @channel_id and (sqlc.narg('status')::text is null or status = sqlc.narg('status'));

-- name: ListDeliveries :many
select sqlc.embed(d), n.type, n.severity, n.title
from notification_deliveries d
join notifications n on n.id = d.notification_id
where d.channel_id = @channel_id and (sqlc.narg('status')::text is null or d.status = sqlc.narg('status'))
order by d.seq desc
limit @page_limit::bigint offset @page_offset::bigint;

-- name: ClaimChannel :one
-- The channel that waited longest and has something due. The lease is in its own
-- row: whoever locks the row sees whether another one was faster.
update notification_channels c
set leased_until = clock_timestamp() + @lease::interval, fence = c.fence + 1, attempted_at = clock_timestamp()
where c.id = (
    select r.id from notification_channels r
    where r.enabled
        and (r.leased_until is null or r.leased_until < clock_timestamp())
        and (r.paused_until is null or r.paused_until < clock_timestamp())
        and exists (
            select from notification_deliveries d
            where d.channel_id = r.id and d.status = 'pending' and d.next_attempt_at <= clock_timestamp()
        )
    order by r.attempted_at nulls first
    limit 1
    for no key update skip locked
)
returning c.*;

-- name: TakeDelivery :one
-- The oldest due delivery of a channel that the caller has claimed.
with taken as (
    update notification_deliveries d set attempts = d.attempts + 1, attempted_at = clock_timestamp()
    where d.id = (
        select w.id from notification_deliveries w
        where w.channel_id = @channel_id and w.status = 'pending' and w.next_attempt_at <= clock_timestamp()
        order by w.seq limit 1
        for update
    )
    returning d.*
)
select taken.id, taken.attempts, taken.created_at, sqlc.embed(n)
from taken join notifications n on n.id = taken.notification_id;

-- name: ReleaseChannel :execrows
-- Ends a claim: of whoever has the fence, and while nobody else could claim.
update notification_channels
set leased_until = null,
    failures = case when @unsound::boolean then failures + 1 when @sound::boolean then 0 else failures end,
    paused_until = case when @pause::interval > interval '0' then clock_timestamp() + @pause::interval end,
    digested_at = case when @digested::boolean then clock_timestamp() else digested_at end
where id = @id and fence = @fence and leased_until is not null;

-- name: SettleDelivery :exec
update notification_deliveries
set status = @status::text, last_error = @last_error,
    delivered_at = case when @status::text = 'delivered' then clock_timestamp() end,
    next_attempt_at = clock_timestamp() + @retry::interval
where id = @id;

-- name: ReturnDelivery :exec
-- It was claimed and not tried.
update notification_deliveries set attempts = attempts - 1, next_attempt_at = clock_timestamp()
where id = @id and status = 'pending';

-- name: CountMessages :one
-- What the receiver of a channel has got within an hour, and how long ago it got a
-- digest.
select count(*) as messages,
    coalesce((select clock_timestamp() - c.digested_at from notification_channels c where c.id = @channel_id), interval '100 years')::interval as since_digest
from notification_deliveries d
where d.channel_id = @channel_id and d.status = 'delivered' and d.digest_id is null and d.attempted_at > clock_timestamp() - interval '1 hour';

-- name: WaitingKinds :many
-- What waits for a channel, the gravest and most frequent first.
select n.type, n.severity, count(*) as waiting, max(d.seq)::bigint as newest
from notification_deliveries d
join notifications n on n.id = d.notification_id
where d.channel_id = @channel_id and d.status = 'pending'
group by n.type, n.severity
order by array_position(array['critical', 'warning', 'info'], n.severity), count(*) desc, n.type;

-- name: WaitingTitles :many
-- A few titles of what waits for a channel, the gravest and newest first.
select n.title
from notification_deliveries d
join notifications n on n.id = d.notification_id
where d.channel_id = @channel_id and d.status = 'pending'
order by array_position(array['critical', 'warning', 'info'], n.severity), d.seq desc
limit @page_limit::bigint;

-- name: SettleDigest :exec
-- What a digest has told of, other than its own delivery.
update notification_deliveries set status = 'delivered', delivered_at = clock_timestamp(), digest_id = @digest_id::uuid
where channel_id = @channel_id and status = 'pending' and seq <= @seq and id <> @digest_id::uuid;
