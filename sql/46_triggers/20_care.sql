create trigger audit after update on mirror.webhook_events
for each row
when (old.state <> 'pending')
execute function mirror.audit_event();

create trigger forget_seen after delete on mirror.sync_runs
for each row execute function mirror.forget_seen();

create trigger guard after insert or update or delete on mirror.retry_schedule
for each statement execute function mirror.guard_retry_schedule();
create trigger guard_truncate after truncate on mirror.retry_schedule
for each statement execute function mirror.guard_retry_schedule();

create trigger guard after insert or update or delete on mirror.retention
for each statement execute function mirror.guard_retention();
create trigger guard_truncate after truncate on mirror.retention
for each statement execute function mirror.guard_retention();

create trigger guard before update on mirror.webhook_events
for each row -- nothing but a cell's edit changes the state and leaves the time
when (new.state is distinct from old.state and new.settled_at is not distinct from old.settled_at)
execute function mirror.guard_event();
create trigger guard_end before delete on mirror.webhook_events
for each row
when (old.state in ('pending', 'dead'))
execute function mirror.guard_event();

create trigger guard before update on mirror.outbox
for each row
when (new.state is distinct from old.state and new.settled_at is not distinct from old.settled_at)
execute function mirror.guard_command();
create trigger guard_end before delete on mirror.outbox
for each row
when (old.state in ('pending', 'dead'))
execute function mirror.guard_command();

create trigger guard_insert before insert on public.stores
for each row execute function mirror.guard_store();
create trigger guard before update on public.stores
for each row
when ((new.timezone, new.phone_region) is distinct from (old.timezone, old.phone_region))
execute function mirror.guard_store();

create trigger guard before update on mirror.integrations
for each row
when ((new.store_id, new.engine) is distinct from (old.store_id, old.engine))
execute function mirror.guard_integration();
