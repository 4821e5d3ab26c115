-- name: LockUsers :exec
-- Who changes users takes turns: the first one is one, and the last administrator stays.
lock table users in share row exclusive mode;

-- name: AnyUser :one
select exists (select from users);

-- name: CreateUser :one
insert into users (id, username, role, password_hash, subject) values (@id, @username, @role, @password_hash, @subject) returning *;

-- name: GetUser :one
select * from users where id = @id;

-- name: UserByName :one
select * from users where lower(username) = lower(@username);

-- name: UserBySubject :one
select * from users where subject = @subject;

-- name: ListUsers :many
select * from users order by lower(username) limit @page_limit::bigint offset @page_offset::bigint;

-- name: CountUsers :one
select count(*) from users;

-- name: OtherAdmins :one
select count(*) from users where role = 'admin' and id <> @id;

-- name: SaveUser :one
update users set role = @role, password_hash = @password_hash, updated_at = clock_timestamp() where id = @id returning *;

-- name: DeleteUser :execrows
delete from users where id = @id;

-- name: EndSessionsOfUser :execrows
delete from sessions where user_id = @user_id;

-- name: CreateSession :exec
insert into sessions (id, user_id, hash, address, expires_at) values (@id, @user_id, @hash, @address, now() + @lifetime::interval);

-- name: EndOldestSessions :exec
-- All but the newest of a user.
delete from sessions where id in (
    select s.id from sessions s where s.user_id = @user_id order by s.created_at desc, s.id offset @keep::bigint for update skip locked
);

-- name: SessionAddresses :many
-- From where a user's sessions were begun that go on.
select distinct s.address
from sessions s
join users u on u.id = s.user_id
where lower(u.username) = lower(@username) and s.expires_at > now() and s.last_used_at > now() - @idle::interval;

-- name: StampLogin :exec
update users set last_login_at = now() where id = @id;

-- name: GetSession :one
select s.id, s.hash, s.user_id, u.username, u.role
from sessions s
join users u on u.id = s.user_id
where s.id = @id and s.expires_at > now() and s.last_used_at > now() - @idle::interval;

-- name: TouchSession :execrows
update sessions set last_used_at = now() where id = @id;

-- name: EndSession :execrows
delete from sessions where id = @id;

-- name: PruneSessions :execrows
delete from sessions where expires_at < now() or last_used_at < now() - @idle::interval;
