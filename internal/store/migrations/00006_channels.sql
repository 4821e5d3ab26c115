-- +goose Up

create table notification_channels (
    id            uuid primary key,
    name          text not null,
    type          text not null, -- the program knows which there are
    config        jsonb not null, -- without secrets
    secrets       bytea,          -- sealed, bound to this row
    types         text[] not null, -- only these; empty: all
    min_severity  text not null check (min_severity in ('info', 'warning', 'critical')),
    enabled       boolean not null,
    fence         bigint not null default 0, -- of the last claim
    leased_until  timestamptz,               -- while somebody delivers
    paused_until  timestamptz,               -- it failed, or asked to be left alone
    failures      bigint not null default 0, -- in a row
    attempted_at  timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);
create unique index notification_channels_name_key on notification_channels (name);

-- The outbox. A row is made in the transaction of its notification.
create table notification_deliveries (
    id              uuid primary key default gen_random_uuid(),
    channel_id      uuid not null references notification_channels (id) on delete cascade,
    notification_id uuid not null references notifications (id) on delete cascade,
    seq             bigint not null, -- of the notification
    status          text not null default 'pending' check (status in ('pending', 'delivered', 'failed')),
    attempts        bigint not null default 0,
    next_attempt_at timestamptz not null default now(),
    attempted_at    timestamptz,
    delivered_at    timestamptz,
    last_error      text not null default '',
    created_at      timestamptz not null default now(),
    unique (channel_id, seq)
) with (fillfactor = 90);
create index notification_deliveries_notification_idx on notification_deliveries (notification_id);
create index notification_deliveries_waiting_idx on notification_deliveries (channel_id, seq) where status = 'pending';
create index notification_deliveries_tried_idx on notification_deliveries (channel_id, attempted_at desc) where attempted_at is not null;

-- +goose Down
drop table notification_deliveries, notification_channels;
