-- +goose Up

create table users (
    id            uuid primary key,
    username      text not null,
    role          text not null check (role in ('viewer', 'operator', 'admin')),
    password_hash text not null, -- argon2id; empty: comes from the OpenID provider
    subject       text,          -- issuer and subject of the OpenID provider
    last_login_at timestamptz,
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);
create unique index users_username_key on users (lower(username));
create unique index users_subject_key on users (subject) where subject is not null;

create table sessions (
    id           uuid primary key,
    user_id      uuid not null references users (id) on delete cascade,
    hash         bytea not null, -- SHA-256 of the cookie
    address      text not null,
    created_at   timestamptz not null default now(),
    last_used_at timestamptz not null default now(),
    expires_at   timestamptz not null
);
create index sessions_user_idx on sessions (user_id);
create index sessions_expires_idx on sessions (expires_at);

-- Tags of the datasources a token reaches; empty: everything.
alter table api_tokens add column scope text[] not null default '{}';

create table audit_logs (
    id          uuid primary key,
    actor       text not null,
    action      text not null,
    entity_type text not null,
    entity_id   text,
    address     text not null,
    outcome     text not null,
    request_id  text not null,
    count       bigint not null,
    metadata    jsonb,
    created_at  timestamptz not null default clock_timestamp()
);
create index audit_logs_created_idx on audit_logs (created_at desc, id desc);
create index audit_logs_actor_idx on audit_logs (actor, created_at desc, id desc);
create index audit_logs_action_idx on audit_logs (action, created_at desc, id desc);
create index audit_logs_entity_idx on audit_logs (entity_id, created_at desc, id desc) where entity_id is not null;

-- +goose Down
drop table audit_logs, sessions, users;
alter table api_tokens drop column scope;
