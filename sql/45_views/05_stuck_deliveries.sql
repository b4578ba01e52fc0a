create view mirror.stuck_deliveries
with (security_invoker = true)
as
select s.id, s.store_id, s.order_summary_id, s.order_code, s.stage, s.stage_since, s.tracking_number, h.hours as usual_hours
from (
    select st.id as store_id, stages.stage, coalesce(n.usual_hours, 14 * 24) as hours
    from public.stores as st
    cross join unnest(enum_range(null::public.delivery_stage)) as stages (stage)
    left join mirror.delivery_norms as n on st.id = n.store_id and stages.stage = n.stage
    where stages.stage <> 'DELIVERED'
) as h
inner join public.order_delivery_status as s
    on h.store_id = s.store_id and h.stage = s.stage and s.stage_since < now() - make_interval(hours => h.hours)
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
where s.stage <> 'DELIVERED' and not s.is_cancelled and o.order_state is distinct from 'Delivered';

comment on view mirror.stuck_deliveries is
'Orders that have been at their stage for longer than nine of ten usually are; 14 days where nothing is known yet. '
'What the engine says is delivered is not: a shop that was there before the mirror has many such orders, with no stage of ours.';
