create view mirror.provider_rows
with (security_invoker = true)
as
select
    'payment' as entity, p.store_id, p.source, p.source_id, p.source_version, p.source_hash, p.deleted_at, p.updated_at,
    p.initiated_at as made_at
from mirror.provider_payments as p
union all
select
    'refund', r.store_id, r.source, r.source_id, r.source_version, r.source_hash, r.deleted_at, r.updated_at, r.initiated_at
from mirror.provider_refunds as r
union all
select 'plan', l.store_id, l.source, l.source_id, l.source_version, l.source_hash, l.deleted_at, l.updated_at, null
from public.subscription_plans as l
union all
select 'subscription', s.store_id, s.source, s.source_id, s.source_version, s.source_hash, s.deleted_at, s.updated_at, null
from public.subscriptions as s
union all
select 'invoice', i.store_id, i.source, i.source_id, i.source_version, i.source_hash, i.deleted_at, i.updated_at, null
from public.invoices as i;

comment on view mirror.provider_rows is
'What is here of a payment provider''s objects, by kind: what a run compares with the provider''s lists. made_at is when the '
'provider made them, where we keep that.';
