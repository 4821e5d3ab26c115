-- +goose Up

-- Lost backups were told as health_degraded before they had a type of their own: who
-- asked for that goes on to hear of them.
update notification_channels set types = array_append(types, 'backup_lost')
where 'health_degraded' = any(types) and not 'backup_lost' = any(types);

-- +goose Down
update notification_channels
set types = case when 'health_degraded' = any(types) then array_remove(types, 'backup_lost') else array_replace(types, 'backup_lost', 'health_degraded') end
where 'backup_lost' = any(types);
