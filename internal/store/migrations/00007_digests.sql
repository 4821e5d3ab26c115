-- +goose Up

-- What a channel sends in an hour before it puts the rest together; 0: no limit.
alter table notification_channels
    add column max_per_hour bigint not null default 0 check (max_per_hour >= 0),
    add column digested_at timestamptz;
-- The delivery whose message told of this one too.
alter table notification_deliveries add column digest_id uuid;

-- +goose Down
alter table notification_deliveries drop column digest_id;
alter table notification_channels drop column digested_at, drop column max_per_hour;
