create view public.orders_needing_attention
with (security_invoker = true)
as
select o.id, o.store_id, o.order_code, u.reason, u.since, o.batch_id, o.delivery_stage
from mirror.undelivered_orders as u
inner join public.customer_orders_summary as o on u.order_summary_id = o.id
union all
select
    o.id, o.store_id, o.order_code, 'cancelled in batch' as reason, coalesce(o.cancelled_at, o.deleted_at) as since, o.batch_id,
    o.delivery_stage
from public.import_batches as b
inner join public.customer_orders_summary as o on b.id = o.batch_id
where b.status <> 'completed' and o.batch_id is not null and (o.cancelled_at is not null or o.deleted_at is not null)
union all
select o.id, o.store_id, o.order_code, 'money disagrees', d.since, o.batch_id, o.delivery_stage
from mirror.disagreeing_orders as d
inner join public.customer_orders_summary as o on d.order_summary_id = o.id
left join public.import_batches as b on o.batch_id = b.id
where
    not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and (o.cancelled_at is null and o.deleted_at is null or b.id is null or b.status = 'completed')
union all
select o.id, o.store_id, o.order_code, 'not booked', n.since, o.batch_id, o.delivery_stage
from mirror.unbooked_orders as n
inner join public.customer_orders_summary as o on n.order_summary_id = o.id
left join public.import_batches as b on o.batch_id = b.id
where
    not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
    and (o.cancelled_at is null and o.deleted_at is null or b.id is null or b.status = 'completed')
union all
select o.id, o.store_id, o.order_code, 'unpaid', o.order_date, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.customer_orders_summary as o on st.id = o.store_id
where
    o.cancelled_at is null and o.deleted_at is null and o.total_paid < o.total_with_tax
    and o.delivery_stage > 'ORDER_CONFIRMED'
    and (o.delivery_stage = 'DELIVERED' or o.payment_method is null or o.payment_method <> all(st.pay_on_delivery_methods))
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
    and not exists (select from mirror.unbooked_orders as n where n.order_summary_id = o.id)
union all
select o.id, o.store_id, o.order_code, 'no tracking number', s.stage_since, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.order_delivery_status as s on st.id = s.store_id
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
where
    s.stage = 'DISPATCHED' and not s.is_cancelled and s.tracking_number is null
    and (o.total_paid >= o.total_with_tax or o.payment_method = any(st.pay_on_delivery_methods))
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
    and not exists (select from mirror.unbooked_orders as n where n.order_summary_id = o.id)
union all
select o.id, o.store_id, o.order_code, 'stuck', s.stage_since, o.batch_id, o.delivery_stage
from mirror.stuck_deliveries as s
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
inner join public.stores as st on s.store_id = st.id
where
    (s.stage <> 'DISPATCHED' or s.tracking_number is not null)
    and (
        o.total_paid >= o.total_with_tax or o.delivery_stage = 'ORDER_CONFIRMED'
        or o.payment_method = any(st.pay_on_delivery_methods)
    )
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
    and not exists (select from mirror.unbooked_orders as n where n.order_summary_id = o.id);

comment on view public.orders_needing_attention is
'Orders that somebody should look at, each once, with the most pressing reason: conflict (shop and mirror have both changed it), '
'not told to the shop (what was set here), cancelled in batch, money disagrees (between shop and payment provider: '
'disagreement in payments and refunds says in what), not booked (an invoice that Lexware Office does not have, or not as it '
'should: lexoffice_sync_logs says why), unpaid (though on its way), '
'no tracking number (though dispatched), stuck (longer at its stage than usual).';
