create function mirror.read_customers(p_integration_id uuid, p_source_ids text[]) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(
        to_jsonb(c)
        || jsonb_build_object(
            'source_version', nullif(c.source_version, '-infinity'),
            'addresses', coalesce((
                select jsonb_agg(to_jsonb(a) order by a.source_id)
                from public.customer_addresses as a
                where a.customer_id = c.id
            ), '[]')
        )
    ), '[]')
    from mirror.integrations as i
    inner join public.customers as c on c.store_id = i.store_id and c.source = i.engine
    where i.id = p_integration_id and c.source_id = any(p_source_ids)
$$;

comment on function mirror.read_customers(uuid, text[]) is
'The customers with these ids as the tables have them, each with its addresses; source_version is null for a bare reference.';
revoke execute on function mirror.read_customers(uuid, text[]) from public;
grant execute on function mirror.read_customers(uuid, text[]) to service_role;

create function mirror.read_orders(p_integration_id uuid, p_source_ids text[]) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(
        to_jsonb(o)
        || jsonb_build_object(
            'customer_source_id', c.source_id,
            'carrier', s.carrier,
            'delivery_stage', s.stage,
            'tracking_number', s.tracking_number,
            'items', coalesce((
                select jsonb_agg(to_jsonb(t) order by t.source_id)
                from public.customer_order_items as t
                where t.order_summary_id = o.id
            ), '[]'),
            'stages', coalesce(history.told, '[]'),
            'payments', coalesce((
                select jsonb_agg(
                    to_jsonb(p)
                    || jsonb_build_object(
                        'amount', p.shop_amount,
                        'status', p.shop_status,
                        'source_status', p.shop_state,
                        'failure_reason', p.shop_failure_reason,
                        'refunds', coalesce((
                            select jsonb_agg(
                                to_jsonb(f)
                                || jsonb_build_object('amount', f.shop_amount, 'status', f.shop_status, 'source_status', f.shop_state)
                                order by f.source_id
                            )
                            from public.refunds as f
                            where f.payment_id = p.id and f.shop_amount is not null
                        ), '[]')
                    )
                    order by p.source_id
                )
                from public.payments as p
                where p.order_summary_id = o.id and p.shop_amount is not null
            ), '[]'),
            'fulfillments', coalesce((
                select jsonb_agg(to_jsonb(f) order by f.source_id) from public.fulfillments as f where f.order_summary_id = o.id
            ), '[]'),
            'events', coalesce((
                select jsonb_agg(to_jsonb(e) order by e.source_id) from public.order_events as e where e.order_summary_id = o.id
            ), '[]'),
            'echoes', coalesce((
                select jsonb_agg(c.handed_out || jsonb_build_object('source_id', c.change_source_id))
                from mirror.outbox as c
                where c.order_summary_id = o.id and c.change_source_id is not null and c.handed_out = any(history.made_here)
            ), '[]')
        )
    ), '[]')
    from mirror.integrations as i
    inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
    left join public.customers as c on c.id = o.customer_id
    left join public.order_delivery_status as s on s.order_summary_id = o.id
    cross join lateral (
        select
            jsonb_agg(to_jsonb(e) || jsonb_build_object('changed_at', e.updated_at))
            filter (where not mirror.is_made_here(e, o.source)) as told,
            array_agg(jsonb_build_object('stage', e.stage, 'tracking_number', e.tracking_number))
            filter (where mirror.is_made_here(e, o.source)) as made_here
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id
    ) as history
    where i.id = p_integration_id and o.source_id = any(p_source_ids) and o.source_version > '-infinity'
$$;

comment on function mirror.read_orders(uuid, text[]) is
'The orders with these ids as the tables have them, each with its items, its delivery status, what the engine told of the '
'history (stages), of payments, fulfilments and its states (events); no bare tombstones. echoes are the '
'changes in the engine''s history that came of what admins have set here: {"source_id", "stage", "tracking_number"}. In the '
'history they are the admins'' own entries.';
revoke execute on function mirror.read_orders(uuid, text[]) from public;
grant execute on function mirror.read_orders(uuid, text[]) to service_role;
