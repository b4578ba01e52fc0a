-- What customers read of their money, as `select *`. They may read these columns of the tables and no others, so a view that asks
-- as its reader is what makes `select *` work.

create view public.customer_payments
with (security_invoker = true)
as
select
    p.id, p.order_summary_id, p.customer_id, p.method, p.amount, p.currency, p.status, p.amount_refunded, p.initiated_at,
    p.paid_at
from public.payments as p;

comment on view public.customer_payments is 'payments, as customers may read their own.';

create view public.customer_refunds
with (security_invoker = true)
as
select r.id, r.payment_id, r.order_summary_id, r.amount, r.currency, r.status, r.initiated_at
from public.refunds as r;

comment on view public.customer_refunds is 'refunds, as customers may read their own.';

create view public.customer_subscriptions
with (security_invoker = true)
as
select
    s.id, s.customer_id, s.plan_id, p.name as plan_name, p.amount, p.currency, p.billing_interval, p.interval_count,
    p.trial_days, s.status, s.quantity, s.started_at, s.current_period_start, s.current_period_end, s.trial_ends_at,
    s.cancel_at_period_end, s.cancel_at, s.cancelled_at, s.ended_at
from public.subscriptions as s
left join public.subscription_plans as p on s.plan_id = p.id;

comment on view public.customer_subscriptions is 'subscriptions with their plans, as customers may read their own.';

create view public.customer_invoices
with (security_invoker = true)
as
select
    i.id, i.order_summary_id, i.customer_id, i.subscription_id, i.number, i.status, i.currency, i.sub_total, i.tax, i.total,
    i.amount_paid, i.amount_due, i.tax_breakdown, i.issued_at, i.due_at, i.paid_at, i.pdf_url, i.hosted_url
from public.invoices as i;

comment on view public.customer_invoices is 'invoices, as customers may read their own: drafts are not among them.';
