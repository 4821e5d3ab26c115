-- +goose Up

-- Rows with the names of what they belong to, which outlive a deletion.

create view copy_view as
select c.execution_id, c.storage_location_id, c.path, c.status, c.error, c.updated_at,
    l.name as storage_name, l.type as storage_type, l.status as storage_status
from backup_copies c
join storage_locations l on l.id = c.storage_location_id;

-- Everything but the lines, which are large.
create view execution_view as
select e.id, e.job_id, e.datasource_id, e.storage_location_id, e.operation, e.status, e.trigger, e.scheduled_for,
    e.started_at, e.finished_at, e.size_bytes, e.stored_bytes, e.backup_path, e.parts_count, e.error_code, e.error_message,
    e.attempt, e.max_attempts, e.fence, e.worker_id, e.cancel_requested_at, e.lease_expires_at, e.verified_at, e.progress,
    e.request, e.record, e.created_at,
    coalesce(j.name, '') as job_name, coalesce(j.schedule_cron, '') as job_cron,
    d.name as datasource_name, d.type as datasource_type,
    coalesce(l.name, '') as storage_name, coalesce(l.type, '') as storage_type
from backup_executions e
join datasources d on d.id = e.datasource_id
left join backup_jobs j on j.id = e.job_id
left join storage_locations l on l.id = e.storage_location_id;

create view job_view as
select j.id, j.name, j.datasource_id, j.storage_location_id, j.schedule_cron, j.schedule_timezone, j.enabled,
    j.retention_policy, j.backup_options, j.next_execution_at, j.created_at, j.updated_at,
    d.name as datasource_name, d.type as datasource_type, l.name as storage_name, l.type as storage_type
from backup_jobs j
join datasources d on d.id = j.datasource_id
join storage_locations l on l.id = j.storage_location_id
where j.deleted_at is null;

-- +goose Down
drop view job_view, execution_view, copy_view;
