create function mirror.track_order(p_store_slug text, p_order_code text, p_phone text) returns json
language plpgsql stable
set search_path = ''
as $$
declare
    v_order public.customer_orders_summary;
    v_status public.order_delivery_status;
    v_is_shown boolean;
begin
    select o.* into v_order
    from public.stores as s
    inner join public.customer_orders_summary as o on o.store_id = s.id and o.order_code = p_order_code
    left join public.customers as c on c.id = o.customer_id
    where
        s.slug = p_store_slug and s.is_active and o.deleted_at is null
        and (o.contact_phone = p_phone or c.phone_number = p_phone);
    if not found then
        return null;
    end if;

    select * into strict v_status from public.order_delivery_status where order_summary_id = v_order.id;
    v_is_shown := v_status.stage >= 'DISPATCHED';
    return json_build_object(
        'order_code', v_order.order_code,
        'placed_at', v_order.order_date,
        'cancelled_at', v_order.cancelled_at,
        'stage', v_status.stage,
        'timeline', (
            select json_agg(json_build_object('stage', stages.stage, 'reached_at', reached.at) order by stages.stage)
            from unnest(enum_range(null::public.delivery_stage)) as stages (stage)
            left join (
                select e.stage, max(e.updated_at) as at
                from public.order_delivery_status_events as e
                where e.order_summary_id = v_order.id and e.from_stage is distinct from e.stage
                group by e.stage
            ) as reached on reached.stage = stages.stage and stages.stage <= v_status.stage
        ),
        'tracking_number', case when v_is_shown then v_status.tracking_number end,
        'carrier', case when v_is_shown then v_status.carrier end,
        'currency', v_order.currency,
        'total_with_tax', v_order.total_with_tax::text,
        'items', (
            select coalesce(
                json_agg(
                    json_build_object(
                        'product_name', i.product_name,
                        'variant_name', i.variant_name,
                        'quantity', i.quantity,
                        'print_name', i.print_name,
                        'print_number', i.print_number
                    )
                    order by i.product_name, i.variant_name, i.id
                ),
                '[]'
            )
            from public.customer_order_items as i
            where i.order_summary_id = v_order.id and i.quantity > 0
        )
    );
end
$$;

comment on function mirror.track_order(text, text, text) is
'Where an order is, for whoever knows its code and a phone number of it (digits with country code); null for any other pair. '
'The tracking number is told from DISPATCHED on.';
revoke execute on function mirror.track_order(text, text, text) from public;
grant execute on function mirror.track_order(text, text, text) to service_role;
