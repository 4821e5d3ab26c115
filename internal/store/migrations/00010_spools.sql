-- +goose Up

-- Which spool a backup worker has: hosts change their names, and containers share them.
alter table worker_instances add column spool text not null default '';

alter table notifications drop constraint notifications_type_check;
alter table notifications add constraint notifications_type_check
    check (type in ('backup_success', 'backup_failed', 'backup_missed', 'backup_lost', 'restore_success', 'restore_failed',
        'verify_failed', 'connection_lost', 'connection_restored', 'storage_full', 'storage_unreachable', 'storage_restored',
        'health_degraded', 'cleanup_completed'));

-- +goose Down
update notifications set type = 'health_degraded' where type = 'backup_lost';
alter table notifications drop constraint notifications_type_check;
alter table notifications add constraint notifications_type_check
    check (type in ('backup_success', 'backup_failed', 'backup_missed', 'restore_success', 'restore_failed',
        'verify_failed', 'connection_lost', 'connection_restored', 'storage_full', 'storage_unreachable', 'storage_restored',
        'health_degraded', 'cleanup_completed'));
alter table worker_instances drop column spool;
