-- +goose Up

-- Attempts to log in, counted for all processes. They need not survive a crash.
create unlogged table login_tries (
    key   bytea primary key, -- SHA-256 of an address or a name
    tries double precision not null,
    at    timestamptz not null
);
create index login_tries_at_idx on login_tries (at);

-- +goose Down
drop table login_tries;
