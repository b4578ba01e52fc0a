create view public.order_tracking
with (security_invoker = true)
as
select
    o.id,
    o.store_id,
    o.vendure_order_id,
    o.order_code,
    s.tracking_number,
    s.carrier,
    s.updated_at,
    case
        when s.stage = 'ORDER_CONFIRMED' and o.total_paid < o.total_with_tax then 'pending'
        when s.stage = 'ORDER_CONFIRMED' then 'confirmed'
        when s.stage in ('SOURCING', 'ARRIVED') then 'processing'
        when s.stage = 'DISPATCHED' then 'shipped'
        else 'delivered'
    end as status
from public.customer_orders_summary as o
inner join public.order_delivery_status as s on o.id = s.order_summary_id
where o.deleted_at is null;

comment on view public.order_tracking is
'Where orders are, in the words of the shop''s earlier tracking: pending, confirmed, processing, shipped, delivered.';
