-- name: CreateToken :one
insert into api_tokens (id, name, role, hash, expires_at, scope) values (@id, @name, @role, @hash, @expires_at, @scope) returning *;

-- name: GetToken :one
select * from api_tokens where id = @id and revoked_at is null and (expires_at is null or expires_at > now());

-- name: ListTokens :many
select * from api_tokens where revoked_at is null order by name limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountTokens :one
select count(*) from api_tokens where revoked_at is null;

-- name: RevokeToken :execrows
update api_tokens set revoked_at = now(), hash = '' where id = @id and revoked_at is null;

-- name: TouchToken :execrows
update api_tokens set last_used_at = now() where id = @id and revoked_at is null;

-- name: AnyToken :one
select exists (select from api_tokens);
