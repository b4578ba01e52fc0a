-- Before a statement locks the first row: see mirror.take_turn.

create trigger take_turn before insert or update or delete on public.import_batches
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.order_batch_assignments
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.customer_orders_summary
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.order_delivery_status
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on mirror.sync_conflicts
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.customer_order_items
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.customer_addresses
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.payments
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.refunds
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.fulfillments
for each statement execute function mirror.take_turn_first();
