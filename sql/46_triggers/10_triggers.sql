-- What happens by itself, in the transaction of whoever changes a row. Statement triggers, so that a slice is one step.

create trigger guard before insert or update or delete on public.import_batches
for each row execute function mirror.guard_batch();
create trigger follow after update on public.import_batches
for each row execute function mirror.follow_batch();
create trigger audit_insert after insert on public.import_batches
referencing new table as after
for each statement execute function mirror.audit('updated_at', 'order_count', 'is_ready');
create trigger audit_update after update on public.import_batches
referencing old table as before new table as after
for each statement execute function mirror.audit('updated_at', 'order_count', 'is_ready');
create trigger audit_delete after delete on public.import_batches
referencing old table as before
for each statement execute function mirror.audit('updated_at', 'order_count', 'is_ready');

create trigger guard before insert or update or delete on public.order_batch_assignments
for each row execute function mirror.guard_assignment();
create trigger follow_insert after insert on public.order_batch_assignments
referencing new table as after
for each statement execute function mirror.follow_new_assignments();
create trigger follow_update after update on public.order_batch_assignments
referencing old table as before new table as after
for each statement execute function mirror.follow_moved_assignments();
create trigger follow_delete after delete on public.order_batch_assignments
referencing old table as before
for each statement execute function mirror.follow_ended_assignments();
create trigger audit_insert after insert on public.order_batch_assignments
referencing new table as after
for each statement execute function mirror.audit('updated_at');
create trigger audit_update after update on public.order_batch_assignments
referencing old table as before new table as after
for each statement execute function mirror.audit('updated_at');
create trigger audit_delete after delete on public.order_batch_assignments
referencing old table as before
for each statement execute function mirror.audit('updated_at');

create trigger guard before delete on public.customer_orders_summary
for each row execute function mirror.guard_order();
create trigger follow_insert after insert on public.customer_orders_summary
referencing new table as after
for each statement execute function mirror.follow_new_orders();
create trigger follow_update after update on public.customer_orders_summary
referencing old table as before new table as after
for each statement execute function mirror.follow_changed_orders();

create trigger guard before update on public.order_delivery_status
for each row execute function mirror.guard_delivery();
create trigger guard_end before delete on public.order_delivery_status
for each row execute function mirror.guard_delivery_end();
create trigger follow after update on public.order_delivery_status
referencing old table as before new table as after
for each statement execute function mirror.follow_delivery();
create trigger roll_up_insert after insert on public.order_delivery_status
referencing new table as after
for each statement execute function mirror.roll_up_new_deliveries();
create trigger roll_up_update after update on public.order_delivery_status
referencing old table as before new table as after
for each statement execute function mirror.roll_up_changed_deliveries();
create trigger roll_up_delete after delete on public.order_delivery_status
referencing old table as before
for each statement execute function mirror.roll_up_ended_deliveries();
create trigger audit_update after update on public.order_delivery_status
referencing old table as before new table as after
for each statement execute function mirror.audit(
    'updated_at', 'stage_since', 'confirmed_at', 'sourcing_at', 'arrived_at', 'dispatched_at', 'delivered_at'
);
create trigger audit_delete after delete on public.order_delivery_status
referencing old table as before
for each statement execute function mirror.audit(
    'updated_at', 'stage_since', 'confirmed_at', 'sourcing_at', 'arrived_at', 'dispatched_at', 'delivered_at'
);
create constraint trigger require_tracking_number after update on public.order_delivery_status
deferrable initially deferred
for each row
when (new.stage >= 'DISPATCHED' and new.stage is distinct from old.stage)
execute function mirror.require_tracking_number();

create trigger append_only before update or delete on public.order_delivery_status_events
for each row execute function mirror.refuse_change();
create trigger append_only before update or delete on public.order_events
for each row when (not mirror.is_engine())
execute function mirror.refuse_change();
create trigger append_only before update or delete on public.supplier_purchase_lists
for each row execute function mirror.refuse_change();
create trigger append_only_truncate before truncate on public.order_delivery_status_events
for each statement execute function mirror.refuse_change();

create trigger audit_insert after insert on public.customers
referencing new table as after
for each statement execute function mirror.audit_consent();
create trigger audit_update after update on public.customers
referencing old table as before new table as after
for each statement execute function mirror.audit_consent();

create trigger guard before update or delete on mirror.sync_conflicts
for each row execute function mirror.guard_conflict();
create trigger follow after update on mirror.sync_conflicts
for each row
when (old.resolution is null and new.resolution is not null)
execute function mirror.follow_resolution();

create trigger append_only before update or delete on mirror.audit_log
for each row execute function mirror.refuse_change();
create trigger append_only_truncate before truncate on mirror.audit_log
for each statement execute function mirror.refuse_change();

create trigger follow_currency after update of currency on public.stores
for each row when (old.currency is distinct from new.currency)
execute function mirror.follow_currency();
