-- Who may do what. Supabase grants the roles of its Data API a few rights on new objects by default: start from none.

revoke all on
public.stores,
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events
from public, anon, authenticated, service_role;

grant select on
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events
to authenticated;

grant select, insert, update, delete on
public.stores,
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
mirror.integrations,
mirror.webhook_events
to service_role;

revoke all on
public.import_batches,
public.order_batch_assignments,
public.supplier_purchase_lists,
public.otp_sessions,
public.order_tracking,
public.orders_needing_attention
from public, anon, authenticated, service_role;

grant select on public.order_tracking to authenticated;

grant select, insert, update, delete on
public.import_batches,
public.order_batch_assignments,
public.supplier_purchase_lists,
public.otp_sessions,
mirror.otp_settings,
mirror.otp_usage,
mirror.sms_deliveries,
mirror.request_counts,
mirror.request_salt,
mirror.batch_numbers,
mirror.delivery_stage_counts,
mirror.delivery_durations,
mirror.delivery_norms,
mirror.expected_steps,
mirror.outbox,
mirror.sync_conflicts,
mirror.sync_cursors,
mirror.sync_receipts,
mirror.sync_runs,
mirror.sync_seen,
mirror.drift,
mirror.hook_gaps,
mirror.hook_pulse
to service_role;

grant select on public.order_tracking, public.orders_needing_attention, mirror.stuck_deliveries, mirror.undelivered_orders,
mirror.provider_rows
to service_role;
grant select, insert on public.order_delivery_status_events to service_role;
grant select on mirror.audit_log to service_role;
grant select, delete on mirror.hand_edits to service_role;
grant select, update (last_run_at, last_error) on mirror.schedule to service_role;
grant select, insert, update, delete on mirror.retry_schedule, mirror.retention, mirror.seen_events to service_role;

revoke all on
public.payments,
public.refunds,
public.fulfillments,
public.order_events,
public.subscription_plans,
public.subscriptions,
public.invoices,
public.customer_payments,
public.customer_refunds,
public.customer_subscriptions,
public.customer_invoices
from public, anon, authenticated, service_role;

grant select, insert, update, delete on
public.payments,
public.refunds,
public.fulfillments,
public.order_events,
public.subscription_plans,
public.subscriptions,
public.invoices,
mirror.provider_payments,
mirror.provider_refunds
to service_role;

grant select on
public.customer_payments,
public.customer_refunds,
public.customer_subscriptions,
public.customer_invoices
to authenticated, service_role;
grant select on mirror.disagreeing_orders to service_role;

-- What the views above show, and no more: no provider's ids, no reasons, nothing of what shop and provider disagree about.
grant select (
    id, order_summary_id, customer_id, method, amount, currency, status, amount_refunded, initiated_at, paid_at
) on public.payments to authenticated;
grant select (id, payment_id, order_summary_id, amount, currency, status, initiated_at) on public.refunds to authenticated;
grant select (
    id, customer_id, plan_id, status, quantity, started_at, current_period_start, current_period_end,
    trial_ends_at, cancel_at_period_end, cancel_at, cancelled_at, ended_at
) on public.subscriptions to authenticated;
grant select (id, name, amount, currency, billing_interval, interval_count, trial_days) on public.subscription_plans
to authenticated;
grant select (
    id, order_summary_id, customer_id, subscription_id, number, status, currency, sub_total, tax, total, amount_paid,
    amount_due, tax_breakdown, issued_at, due_at, paid_at, pdf_url, hosted_url
) on public.invoices to authenticated;

revoke all on public.lexoffice_sync_logs from public, anon, authenticated, service_role;

grant select, insert, update on public.lexoffice_sync_logs to service_role;
grant select, insert, update, delete on mirror.lexoffice_settings to service_role;
grant select, update on mirror.lexoffice_pace to service_role;
grant select on mirror.unbooked_orders to service_role;
