create function mirror.begin_delivery(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_delivery_status (
        store_id, order_summary_id, order_code, stage, tracking_number, updated_by, is_cancelled, confirmed_at
    )
    select
        o.store_id, o.id, o.order_code, o.delivery_stage, o.tracking_number, o.source::text,
        o.cancelled_at is not null or o.deleted_at is not null, o.order_date
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    order by o.source_id
    on conflict (order_summary_id, store_id) do nothing;

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, stage, updated_by, actor, source_id, updated_at
    )
    select
        o.store_id, o.id, o.order_code, 'ORDER_CONFIRMED', o.source::text, (select mirror.current_actor()), 'placed',
        o.order_date
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    on conflict (order_summary_id, store_id, source_id) do nothing;
end
$$;

comment on function mirror.begin_delivery(uuid[]) is
'Gives orders that are placed by now their delivery status, and the history its beginning, unless they have them.';
revoke execute on function mirror.begin_delivery(uuid[]) from public;
grant execute on function mirror.begin_delivery(uuid[]) to service_role;
