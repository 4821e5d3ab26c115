-- +goose Up

-- Behind this step every worker's report waits: it does not wait long for one who reads
-- the table, such as a dump.
set local lock_timeout = '5s';

-- What sends notifications reports how it does, as the other workers do.
alter table worker_instances drop constraint worker_instances_role_check;
alter table worker_instances add constraint worker_instances_role_check
    check (role in ('backup', 'restore', 'scheduler', 'health', 'cleanup', 'outbox'));

-- +goose Down
set local lock_timeout = '5s';
delete from worker_instances where role = 'outbox';
alter table worker_instances drop constraint worker_instances_role_check;
alter table worker_instances add constraint worker_instances_role_check
    check (role in ('backup', 'restore', 'scheduler', 'health', 'cleanup'));
