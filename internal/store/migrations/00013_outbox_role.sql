-- +goose Up

-- What sends notifications reports how it does, as the other workers do.
alter table worker_instances drop constraint worker_instances_role_check;
alter table worker_instances add constraint worker_instances_role_check
    check (role in ('backup', 'restore', 'scheduler', 'health', 'cleanup', 'outbox'));

-- +goose Down
delete from worker_instances where role = 'outbox';
alter table worker_instances drop constraint worker_instances_role_check;
alter table worker_instances add constraint worker_instances_role_check
    check (role in ('backup', 'restore', 'scheduler', 'health', 'cleanup'));
