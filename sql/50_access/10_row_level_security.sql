-- Row-level security is on for every table, for its owner too. Machinery and inbox have no policy: only roles that bypass
-- row-level security (service_role, postgres) reach them.

alter table public.stores enable row level security;
alter table public.stores force row level security;
alter table public.customers enable row level security;
alter table public.customers force row level security;
alter table public.customer_addresses enable row level security;
alter table public.customer_addresses force row level security;
alter table public.customer_orders_summary enable row level security;
alter table public.customer_orders_summary force row level security;
alter table public.customer_order_items enable row level security;
alter table public.customer_order_items force row level security;
alter table public.order_delivery_status enable row level security;
alter table public.order_delivery_status force row level security;
alter table public.order_delivery_status_events enable row level security;
alter table public.order_delivery_status_events force row level security;
alter table mirror.integrations enable row level security;
alter table mirror.integrations force row level security;
alter table mirror.webhook_events enable row level security;
alter table mirror.webhook_events force row level security;
alter table public.import_batches enable row level security;
alter table public.import_batches force row level security;
alter table public.order_batch_assignments enable row level security;
alter table public.order_batch_assignments force row level security;
alter table public.supplier_purchase_lists enable row level security;
alter table public.supplier_purchase_lists force row level security;
alter table public.otp_sessions enable row level security;
alter table public.otp_sessions force row level security;
alter table mirror.otp_settings enable row level security;
alter table mirror.otp_settings force row level security;
alter table mirror.otp_usage enable row level security;
alter table mirror.otp_usage force row level security;
alter table mirror.sms_deliveries enable row level security;
alter table mirror.sms_deliveries force row level security;
alter table mirror.request_counts enable row level security;
alter table mirror.request_counts force row level security;
alter table mirror.request_salt enable row level security;
alter table mirror.request_salt force row level security;
alter table mirror.batch_numbers enable row level security;
alter table mirror.batch_numbers force row level security;
alter table mirror.audit_log enable row level security;
alter table mirror.audit_log force row level security;
alter table mirror.delivery_stage_counts enable row level security;
alter table mirror.delivery_stage_counts force row level security;
alter table mirror.delivery_durations enable row level security;
alter table mirror.delivery_durations force row level security;
alter table mirror.delivery_norms enable row level security;
alter table mirror.delivery_norms force row level security;
alter table mirror.expected_steps enable row level security;
alter table mirror.expected_steps force row level security;
alter table mirror.outbox enable row level security;
alter table mirror.outbox force row level security;
alter table mirror.sync_cursors enable row level security;
alter table mirror.sync_cursors force row level security;
alter table mirror.sync_receipts enable row level security;
alter table mirror.sync_receipts force row level security;
alter table mirror.sync_runs enable row level security;
alter table mirror.sync_runs force row level security;
alter table mirror.sync_seen enable row level security;
alter table mirror.sync_seen force row level security;
alter table mirror.drift enable row level security;
alter table mirror.drift force row level security;
alter table mirror.hand_edits enable row level security;
alter table mirror.hand_edits force row level security;
alter table mirror.hook_gaps enable row level security;
alter table mirror.hook_gaps force row level security;
alter table mirror.hook_pulse enable row level security;
alter table mirror.hook_pulse force row level security;
alter table mirror.schedule enable row level security;
alter table mirror.schedule force row level security;
alter table mirror.retry_schedule enable row level security;
alter table mirror.retry_schedule force row level security;
alter table mirror.retention enable row level security;
alter table mirror.retention force row level security;
alter table mirror.seen_events enable row level security;
alter table mirror.seen_events force row level security;
alter table mirror.sync_conflicts enable row level security;
alter table mirror.sync_conflicts force row level security;
alter table public.payments enable row level security;
alter table public.payments force row level security;
alter table public.refunds enable row level security;
alter table public.refunds force row level security;
alter table public.fulfillments enable row level security;
alter table public.fulfillments force row level security;
alter table public.order_events enable row level security;
alter table public.order_events force row level security;
alter table public.subscription_plans enable row level security;
alter table public.subscription_plans force row level security;
alter table public.subscriptions enable row level security;
alter table public.subscriptions force row level security;
alter table public.invoices enable row level security;
alter table public.invoices force row level security;
alter table mirror.provider_payments enable row level security;
alter table mirror.provider_payments force row level security;
alter table mirror.provider_refunds enable row level security;
alter table mirror.provider_refunds force row level security;
alter table public.lexoffice_sync_logs enable row level security;
alter table public.lexoffice_sync_logs force row level security;
alter table mirror.lexoffice_settings enable row level security;
alter table mirror.lexoffice_settings force row level security;
alter table mirror.lexoffice_pace enable row level security;
alter table mirror.lexoffice_pace force row level security;

create policy "customers read themselves" on public.customers
for select to authenticated
using (
    -- The one rule of who is whose customer; the other policies ask this one, for what they select here is under it, too.
    -- Both claims are at a token's top level, where users cannot put anything: docs/access.md.
    deleted_at is null
    and (
        auth_user_id = (select auth.uid())
        or (
            phone_verified
            and store_id = ((select auth.jwt()) ->> 'mirror_store')::uuid
            and phone_number = ((select auth.jwt()) ->> 'mirror_phone')
        )
    )
);

create policy "customers read their addresses" on public.customer_addresses
for select to authenticated
-- The array is read once, before the table, and looked up in its index; `in (select …)` would read the whole table.
using (customer_id = any(array(select c.id from public.customers as c)));

create policy "customers read their orders" on public.customer_orders_summary
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null);

create policy "customers read the items of their orders" on public.customer_order_items
for select to authenticated
using (order_summary_id = any(array(select o.id from public.customer_orders_summary as o)));

create policy "customers read the delivery of their orders" on public.order_delivery_status
for select to authenticated
using (order_summary_id = any(array(select o.id from public.customer_orders_summary as o)));

create policy "customers read the delivery history of their orders" on public.order_delivery_status_events
for select to authenticated
using (order_summary_id = any(array(select o.id from public.customer_orders_summary as o)));

-- Of these a customer reads some columns only, see 20_grants.sql: the rest is the provider's, or for admins.
create policy "customers read their payments" on public.payments
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null);

create policy "customers read the refunds of their payments" on public.refunds
for select to authenticated
using (payment_id = any(array(select p.id from public.payments as p)) and deleted_at is null);

create policy "customers read their subscriptions" on public.subscriptions
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null and source_version > '-infinity');

create policy "customers read the plans of their subscriptions" on public.subscription_plans
for select to authenticated
using (id = any(array(select s.plan_id from public.subscriptions as s)));

create policy "customers read their invoices" on public.invoices
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null and status <> 'draft');
