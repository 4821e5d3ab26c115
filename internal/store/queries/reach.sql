-- What lies in a scope: datasources with one of its tags, and what belongs to them. The
-- datasource is looked up inside of the query, not joined: every call by id of a caller
-- with a scope asks first, and a join takes longer to plan than all of it to run.

-- name: DatasourceInScope :one
select (tags && @scope::text[])::boolean as inside from datasources where id = @id;

-- name: JobInScope :one
select (tags && @scope::text[])::boolean as inside from datasources where id = (select j.datasource_id from backup_jobs j where j.id = @id);

-- name: ExecutionInScope :one
select (tags && @scope::text[])::boolean as inside from datasources where id = (select e.datasource_id from backup_executions e where e.id = @id);

-- name: NotificationInScope :one
select exists (
    select from notifications n
    join datasources d on d.tags && @scope::text[] and (
        n.entity_type = 'datasource' and n.entity_id = d.id::text
        or n.entity_type = 'backup_job' and exists (select from backup_jobs j where j.datasource_id = d.id and j.id::text = n.entity_id))
    where n.id = @id);
