create view mirror.disagreeing_orders
with (security_invoker = true)
as
select k.order_summary_id, min(k.updated_at) as since
from (
    select p.order_summary_id, p.updated_at from public.payments as p where p.disagreement is not null
    union all
    select r.order_summary_id, r.updated_at from public.refunds as r where r.disagreement is not null
) as k
where k.order_summary_id is not null
group by k.order_summary_id;

comment on view mirror.disagreeing_orders is 'Orders about whose payments or refunds shop and payment provider do not agree.';
