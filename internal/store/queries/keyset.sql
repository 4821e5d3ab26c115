-- name: WriteKeysetCheck :exec
insert into keyset_check (sealed) values (@sealed) on conflict do nothing;

-- name: ReadKeysetCheck :one
select sealed from keyset_check;
