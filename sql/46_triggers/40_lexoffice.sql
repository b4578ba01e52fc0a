create trigger queue_inserted after insert on public.invoices
referencing new table as after
for each statement execute function mirror.queue_changed_invoices();
create trigger queue_updated after update on public.invoices
referencing new table as after
for each statement execute function mirror.queue_changed_invoices();

create trigger queue_since after update on mirror.lexoffice_settings
referencing new table as after
for each statement execute function mirror.queue_since();

create trigger give_lexoffice_settings after insert on public.stores
referencing new table as after
for each statement execute function mirror.give_lexoffice_settings();

create trigger guard_push before update or delete on public.lexoffice_sync_logs
for each row when (not mirror.is_engine() and pg_trigger_depth() = 0)
execute function mirror.guard_push();

create trigger audit_update after update on public.lexoffice_sync_logs
referencing old table as before new table as after
for each statement when (not mirror.is_engine() and pg_trigger_depth() = 0)
execute function mirror.audit('updated_at', 'attempts', 'available_at');
