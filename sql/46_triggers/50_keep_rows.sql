-- With all rows ticked, Studio sends TRUNCATE, which no row's trigger sees. What lacks a guard here is a cache, or may go.

create trigger keep_rows before truncate on public.stores
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customers
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customer_addresses
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customer_orders_summary
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customer_order_items
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.import_batches
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.order_batch_assignments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.supplier_purchase_lists
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.order_delivery_status
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.order_events
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.payments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.refunds
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.fulfillments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.subscription_plans
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.subscriptions
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.invoices
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.lexoffice_sync_logs
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.integrations
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.webhook_events
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.seen_events
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.outbox
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_conflicts
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.provider_payments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.provider_refunds
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_runs
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_receipts
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_cursors
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.hand_edits
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.batch_numbers
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.delivery_stage_counts
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.delivery_durations
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.schedule
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.otp_settings
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.lexoffice_settings
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.lexoffice_pace
for each statement execute function mirror.refuse_emptying();
