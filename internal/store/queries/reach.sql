-- What lies in a scope: datasources with one of its tags, and what belongs to them.

-- name: DatasourceInScope :one
select exists (select from datasources where id = @id and tags && @scope::text[]);

-- name: JobInScope :one
select exists (select from backup_jobs j join datasources d on d.id = j.datasource_id where j.id = @id and d.tags && @scope::text[]);

-- name: ExecutionInScope :one
select exists (select from backup_executions e join datasources d on d.id = e.datasource_id where e.id = @id and d.tags && @scope::text[]);

-- name: NotificationInScope :one
select exists (
    select from notifications n
    join datasources d on d.tags && @scope::text[] and (
        n.entity_type = 'datasource' and n.entity_id = d.id::text
        or n.entity_type = 'backup_job' and exists (select from backup_jobs j where j.datasource_id = d.id and j.id::text = n.entity_id))
    where n.id = @id);
