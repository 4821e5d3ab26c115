-- A bucket of tries gets one back every so many seconds.

-- name: RefillTries :exec
insert into login_tries (key, tries, at) values (@key, @size, now())
on conflict (key) do update set
    tries = least(@size, login_tries.tries + greatest(0, extract(epoch from now() - login_tries.at)) / @every::float8),
    at = now();

-- name: TakeTry :execrows
update login_tries set tries = tries - 1 where key = @key and tries >= 1;

-- name: TriesLeft :one
select tries from login_tries where key = @key;

-- name: GiveTryBack :exec
update login_tries set tries = least(@size, tries + 1) where key = @key;

-- name: PruneTries :exec
delete from login_tries where at < now() - interval '1 hour';
