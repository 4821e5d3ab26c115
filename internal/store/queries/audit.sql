-- name: CreateAuditLog :exec
insert into audit_logs (id, actor, action, entity_type, entity_id, address, outcome, request_id, count, metadata)
values (@id, @actor, @action, @entity_type, @entity_id, @address, @outcome, @request_id, @count, @metadata);

-- name: FinishAuditLog :execrows
update audit_logs set outcome = @outcome, entity_id = coalesce(sqlc.narg('entity_id'), entity_id) where id = @id;

-- name: AddToAuditLog :execrows
update audit_logs set count = count + @more::bigint where id = @id;

-- name: ListAuditLogs :many
select * from audit_logs
where (sqlc.narg('actor')::text is null or actor = sqlc.narg('actor'))
    and (sqlc.narg('action')::text is null or action = sqlc.narg('action'))
    and (sqlc.narg('entity_type')::text is null or entity_type = sqlc.narg('entity_type'))
    and (sqlc.narg('entity_id')::text is null or entity_id = sqlc.narg('entity_id'))
    and (sqlc.narg('outcome')::text is null or outcome = sqlc.narg('outcome'))
    and (sqlc.narg('from_time')::timestamptz is null or created_at >= sqlc.narg('from_time'))
    and (sqlc.narg('to_time')::timestamptz is null or created_at < sqlc.narg('to_time'))
order by created_at desc, id desc
limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountAuditLogs :one
select count(*) from audit_logs
where (sqlc.narg('actor')::text is null or actor = sqlc.narg('actor'))
    and (sqlc.narg('action')::text is null or action = sqlc.narg('action'))
    and (sqlc.narg('entity_type')::text is null or entity_type = sqlc.narg('entity_type'))
    and (sqlc.narg('entity_id')::text is null or entity_id = sqlc.narg('entity_id'))
    and (sqlc.narg('outcome')::text is null or outcome = sqlc.narg('outcome'))
    and (sqlc.narg('from_time')::timestamptz is null or created_at >= sqlc.narg('from_time'))
    and (sqlc.narg('to_time')::timestamptz is null or created_at < sqlc.narg('to_time'));

-- name: PruneAuditLogs :execrows
delete from audit_logs where id in (select a.id from audit_logs a where a.created_at < now() - @age::interval limit 10000);
