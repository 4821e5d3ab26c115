-- +goose Up

-- Running backups hold the table only in passing: who waits longer waits for a dump of it.
set local lock_timeout = '5s';

-- A copy on its way out that was never available is told from one that somebody deletes:
-- when it turns out to be whole, it stays. See DoomCopies.
alter table backup_copies add column given_up boolean not null default false;
drop view copy_view;
create view copy_view as
select c.execution_id, c.storage_location_id, c.path, c.status, c.error, c.updated_at, c.given_up,
    l.name as storage_name, l.type as storage_type, l.status as storage_status
from backup_copies c
join storage_locations l on l.id = c.storage_location_id;

-- +goose Down
set local lock_timeout = '5s';
drop view copy_view;
create view copy_view as
select c.execution_id, c.storage_location_id, c.path, c.status, c.error, c.updated_at,
    l.name as storage_name, l.type as storage_type, l.status as storage_status
from backup_copies c
join storage_locations l on l.id = c.storage_location_id;
alter table backup_copies drop column given_up;
