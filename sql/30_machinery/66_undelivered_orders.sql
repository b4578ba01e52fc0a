create view mirror.undelivered_orders
with (security_invoker = true)
as
select k.order_summary_id, k.integration_id, 'conflict' as reason, k.created_at as since
from mirror.sync_conflicts as k
where k.resolved_at is null
union all
select c.order_summary_id, c.integration_id, 'not told to the shop', c.settled_at
from mirror.outbox as c
inner join public.customer_orders_summary as o on c.order_summary_id = o.id
where
    c.state = 'dead' and o.cancelled_at is null and o.deleted_at is null
    and (o.delivery_stage, o.tracking_number) is distinct from (o.source_delivery_stage, o.source_tracking_number)
    and not exists (
        select from mirror.outbox as later
        where later.order_summary_id = c.order_summary_id and (later.created_at, later.id) > (c.created_at, c.id)
    )
    and not exists (
        select from mirror.sync_conflicts as k where k.order_summary_id = c.order_summary_id and k.resolved_at is null
    );

comment on view mirror.undelivered_orders is
'Orders of which the engine is not told what is here, until an admin does something about it, each once.';
