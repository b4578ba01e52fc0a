create view mirror.stuck_deliveries
with (security_invoker = true)
as
select s.*, h.hours as usual_hours
from (
    select st.id as store_id, stages.stage, coalesce(n.usual_hours, 14 * 24) as hours
    from public.stores as st
    cross join unnest(enum_range(null::public.delivery_stage)) as stages (stage)
    left join mirror.delivery_norms as n on n.store_id = st.id and n.stage = stages.stage
    where stages.stage <> 'DELIVERED'
) as h
inner join public.order_delivery_status as s
    on s.store_id = h.store_id and s.stage = h.stage and s.stage_since < now() - make_interval(hours => h.hours)
where s.stage <> 'DELIVERED' and not s.is_cancelled;

comment on view mirror.stuck_deliveries is
'Orders that have been at their stage for longer than nine of ten usually are; 14 days where nothing is known yet.';
