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
