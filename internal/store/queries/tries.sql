-- A bucket of tries gets one back every so many seconds.

-- name: TakeTry :execrows
insert into login_tries (key, tries, at) values (@key, cast(@size as float8) - 1, now())
on conflict (key) do update set
    tries = least(cast(@size as float8), login_tries.tries + greatest(0, extract(epoch from now() - login_tries.at)) / cast(@every as float8)) - 1,
    at = now()
where least(cast(@size as float8), login_tries.tries + greatest(0, extract(epoch from now() - login_tries.at)) / cast(@every as float8)) >= 1;

-- name: RefillTries :one
update login_tries set
    tries = least(cast(@size as float8), tries + greatest(0, extract(epoch from now() - at)) / cast(@every as float8)),
    at = now()
where key = @key
returning tries;

-- name: GiveTryBack :exec
update login_tries set tries = least(@size, tries + 1) where key = @key;

-- name: PruneTries :exec
delete from login_tries where at < now() - interval '1 hour';
