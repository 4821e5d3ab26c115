-- +goose Up

-- A sealed constant: it opens with the right key file only.
create table keyset_check (
    id         smallint primary key default 1 check (id = 1),
    sealed     bytea not null,
    created_at timestamptz not null default now()
);

create table datasources (
    id                   uuid primary key,
    name                 text not null,
    type                 text not null check (type in ('postgres', 'mysql', 'mariadb')),
    status               text not null check (status in ('healthy', 'warning', 'critical', 'unknown')),
    enabled              boolean not null,
    protected            boolean not null,
    tags                 text[] not null,
    connection_config    jsonb not null, -- without secrets
    secrets              bytea,          -- sealed, bound to this row
    last_health_check_at timestamptz,
    created_at           timestamptz not null default now(),
    updated_at           timestamptz not null default now(),
    deleted_at           timestamptz     -- the row stays for the names in past executions
);
create unique index datasources_name_key on datasources (name) include (type, status, enabled) where deleted_at is null;
create index datasources_type_idx on datasources (type, name) include (status, enabled) where deleted_at is null;
create index datasources_status_idx on datasources (status, name) include (type, enabled) where deleted_at is null;
create index datasources_enabled_idx on datasources (enabled, name) include (type, status) where deleted_at is null;
create index datasources_tags_idx on datasources using gin (tags) where deleted_at is null;

create table storage_locations (
    id              uuid primary key,
    name            text not null,
    type            text not null check (type in ('local', 's3', 'minio', 'gcs')),
    config          jsonb not null, -- without secrets
    secrets         bytea,          -- sealed, bound to this row
    is_default      boolean not null,
    available_bytes bigint,
    status          text not null check (status in ('healthy', 'full', 'unreachable')),
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    deleted_at      timestamptz
);
create unique index storage_locations_name_key on storage_locations (name) include (type, status) where deleted_at is null;
create unique index storage_locations_default_key on storage_locations (is_default) where is_default and deleted_at is null;
create index storage_locations_type_idx on storage_locations (type, name) include (status) where deleted_at is null;
create index storage_locations_status_idx on storage_locations (status, name) include (type) where deleted_at is null;

create table backup_jobs (
    id                  uuid primary key,
    name                text not null,
    datasource_id       uuid not null constraint backup_jobs_datasource_fk references datasources (id),
    storage_location_id uuid not null constraint backup_jobs_storage_location_fk references storage_locations (id),
    schedule_cron       text not null,
    schedule_timezone   text not null,
    enabled             boolean not null,
    retention_policy    jsonb not null,
    backup_options      jsonb not null,
    next_execution_at   timestamptz,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    deleted_at          timestamptz
);
create unique index backup_jobs_name_key on backup_jobs (name) include (id, enabled, datasource_id, storage_location_id) where deleted_at is null;
create index backup_jobs_enabled_idx on backup_jobs (enabled, name) include (id, datasource_id, storage_location_id) where deleted_at is null;
create index backup_jobs_datasource_idx on backup_jobs (datasource_id, name) include (id, enabled, storage_location_id) where deleted_at is null;
create index backup_jobs_storage_location_idx on backup_jobs (storage_location_id, name) include (id, enabled, datasource_id) where deleted_at is null;
create index backup_jobs_targets_idx on backup_jobs using gin ((backup_options -> 'storage_targets') jsonb_path_ops) where deleted_at is null;
create index backup_jobs_due_idx on backup_jobs (next_execution_at, id) where enabled and deleted_at is null;

-- A heartbeat touches lease_expires_at, heartbeat_at, phase and progress every
-- few seconds: none of them is indexed, and the free space in each page lets the
-- new version stay next to the old one.
create table backup_executions (
    id                  uuid primary key,
    job_id              uuid constraint backup_executions_job_fk references backup_jobs (id),
    datasource_id       uuid not null constraint backup_executions_datasource_fk references datasources (id),
    storage_location_id uuid constraint backup_executions_storage_location_fk references storage_locations (id),
    source_execution_id uuid, -- the backup that is restored or verified
    operation           text not null check (operation in ('backup', 'restore', 'verify')),
    status              text not null default 'queued' check (status in ('queued', 'running', 'completed', 'failed', 'cancelled')),
    trigger             text not null check (trigger in ('manual', 'schedule', 'retry')),
    scheduled_for       timestamptz,
    started_at          timestamptz, -- of the newest attempt
    finished_at         timestamptz,
    size_bytes          bigint,
    stored_bytes        bigint,
    backup_path         text,
    parts_count         bigint,
    error_code          text,
    error_message       text,
    attempt             bigint not null default 0,
    max_attempts        bigint not null check (max_attempts > 0),
    fence               bigint not null default 0,
    worker_id           text,
    lock_key            text,
    available_at        timestamptz not null default now(),
    lease_expires_at    timestamptz,
    heartbeat_at        timestamptz,
    cancel_requested_at timestamptz,
    verified_at         timestamptz,
    phase               text,
    progress            jsonb,
    request             jsonb not null,
    metadata            jsonb not null default '{"execution_logs": []}', -- the record, and execution_logs: [{seq, ts, level, message}]
    record              jsonb not null generated always as (metadata - 'execution_logs') stored, -- lists read this, not the lines
    created_at          timestamptz not null default clock_timestamp(),
    check ((status = 'running') = (lease_expires_at is not null)),
    check ((status in ('completed', 'failed', 'cancelled')) = (finished_at is not null))
) with (fillfactor = 80);

create unique index backup_executions_lock_key on backup_executions (lock_key) where status in ('queued', 'running');
create unique index backup_executions_slot_key on backup_executions (job_id, scheduled_for) where scheduled_for is not null;
create index backup_executions_source_idx on backup_executions (source_execution_id) where status in ('queued', 'running');

-- One index per list filter, in list order; the one by status is also the way to
-- queued and running ones. Each holds the columns of the other
-- filters too, so that every page and every total is found without the table.
create index backup_executions_created_idx on backup_executions (created_at desc, id desc)
    include (job_id, datasource_id, storage_location_id, status, operation);
create index backup_executions_job_idx on backup_executions (job_id, created_at desc, id desc)
    include (datasource_id, storage_location_id, status, operation);
create index backup_executions_datasource_idx on backup_executions (datasource_id, created_at desc, id desc)
    include (job_id, storage_location_id, status, operation);
create index backup_executions_storage_location_idx on backup_executions (storage_location_id, created_at desc, id desc)
    include (job_id, datasource_id, status, operation);
create index backup_executions_status_idx on backup_executions (status, created_at desc, id desc)
    include (job_id, datasource_id, storage_location_id, operation);
create index backup_executions_operation_idx on backup_executions (operation, created_at desc, id desc)
    include (job_id, datasource_id, storage_location_id, status);

create table backup_chunks (
    execution_id uuid not null references backup_executions (id) on delete cascade,
    chunk_number bigint not null,
    file_path    text not null,
    size_bytes   bigint not null,
    checksum     text not null, -- SHA-256, hexadecimal
    primary key (execution_id, chunk_number)
);

create table backup_copies (
    execution_id        uuid not null references backup_executions (id) on delete cascade,
    storage_location_id uuid not null constraint backup_copies_storage_location_fk references storage_locations (id),
    path                text not null,
    fence               bigint not null, -- of the attempt that wrote it
    status              text not null check (status in ('pending', 'available', 'failed', 'deleting', 'deleted', 'missing')),
    error               text not null default '',
    updated_at          timestamptz not null default now(),
    primary key (execution_id, storage_location_id, path)
);
create index backup_copies_storage_location_idx on backup_copies (storage_location_id, status);
create index backup_copies_doomed_idx on backup_copies (updated_at, execution_id) where status in ('pending', 'failed', 'deleting');
create index backup_copies_kept_idx on backup_copies (execution_id, status) where status in ('available', 'missing');

-- seq is the order in which notifications became visible: writers take turns.
create table notifications (
    id          uuid primary key default gen_random_uuid(),
    seq         bigint not null generated always as identity unique,
    type        text not null check (type in ('backup_success', 'backup_failed', 'backup_missed', 'restore_success', 'restore_failed',
                    'verify_failed', 'connection_lost', 'connection_restored', 'storage_full', 'storage_unreachable', 'storage_restored',
                    'health_degraded', 'cleanup_completed')),
    severity    text not null check (severity in ('info', 'warning', 'critical')),
    entity_type text not null check (entity_type in ('datasource', 'backup_job', 'storage_location', 'system')),
    entity_id   text not null,
    title       text not null,
    message     text not null,
    metadata    jsonb,
    read_at     timestamptz,
    created_at  timestamptz not null default clock_timestamp()
);
create index notifications_type_idx on notifications (type, seq desc) include (severity, read_at);
create index notifications_severity_idx on notifications (severity, seq desc) include (type, read_at);
create index notifications_unread_idx on notifications (seq desc) include (type, severity) where read_at is null;
create index notifications_created_idx on notifications (created_at, seq);

create table health_checks (
    id            uuid primary key default gen_random_uuid(),
    datasource_id uuid not null references datasources (id),
    checked_at    timestamptz not null default clock_timestamp(),
    status        text not null check (status in ('ok', 'timeout', 'auth_failed', 'unreachable', 'error')),
    latency_ms    bigint,
    error_message text not null,
    metadata      jsonb
);
create index health_checks_checked_idx on health_checks (checked_at desc, id desc);
create index health_checks_datasource_idx on health_checks (datasource_id, checked_at desc, id desc);

create table storage_health_checks (
    id                  uuid primary key default gen_random_uuid(),
    storage_location_id uuid not null references storage_locations (id),
    checked_at          timestamptz not null default clock_timestamp(),
    status              text not null check (status in ('ok', 'error')),
    latency_ms          bigint,
    available_bytes     bigint,
    error_message       text not null,
    metadata            jsonb
);
create index storage_health_checks_checked_idx on storage_health_checks (checked_at desc, id desc);
create index storage_health_checks_storage_location_idx on storage_health_checks (storage_location_id, checked_at desc, id desc);

create table api_tokens (
    id           uuid primary key,
    name         text not null,
    role         text not null check (role in ('viewer', 'operator', 'admin')),
    hash         bytea not null,
    expires_at   timestamptz,
    last_used_at timestamptz,
    created_at   timestamptz not null default now(),
    revoked_at   timestamptz
);
create unique index api_tokens_name_key on api_tokens (name) where revoked_at is null;

create table worker_instances (
    id               text primary key,
    role             text not null check (role in ('backup', 'restore', 'scheduler', 'health', 'cleanup')),
    host             text not null,
    pid              bigint not null,
    state            text not null check (state in ('running', 'stopped', 'error')),
    last_started_at  timestamptz,
    last_finished_at timestamptz,
    last_error       text not null,
    expires_at       timestamptz not null
);

-- +goose Down
drop table worker_instances, api_tokens, storage_health_checks, health_checks, notifications, backup_copies, backup_chunks,
    backup_executions, backup_jobs, storage_locations, datasources, keyset_check;
