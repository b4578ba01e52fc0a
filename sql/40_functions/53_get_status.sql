create function mirror.get_status() returns json
language sql stable
set search_path = ''
as $$
    select json_build_object(
        'inbox', (
            select json_object_agg(states.state, coalesce(counted.events, 0) order by states.state)
            from unnest(enum_range(null::mirror.event_state)) as states (state)
            left join (
                select e.state, count(*) as events
                from mirror.webhook_events as e
                group by e.state
            ) as counted using (state)
        ),
        'lag_seconds', coalesce((
            select extract(epoch from now() - min(e.created_at))::float8
            from mirror.webhook_events as e
            where e.state = 'pending'
        ), 0),
        'dead_letters', coalesce((
            select json_agg(json_build_object(
                'event_id', dead.event_id, 'event_type', dead.event_type, 'entity_id', dead.entity_id,
                'reason', dead.reason, 'settled_at', dead.settled_at
            ))
            from (
                select e.event_id, e.event_type, e.entity_id, e.reason, e.settled_at
                from mirror.webhook_events as e
                where e.state = 'dead'
                order by e.settled_at desc
                limit 10
            ) as dead
        ), '[]'),
        'tables', json_build_object(
            'customers', (select count(*) from public.customers),
            'customer_addresses', (select count(*) from public.customer_addresses),
            'customer_orders_summary', (select count(*) from public.customer_orders_summary),
            'customer_order_items', (select count(*) from public.customer_order_items),
            'order_delivery_status', (select count(*) from public.order_delivery_status),
            'order_delivery_status_events', (select count(*) from public.order_delivery_status_events)
        )
    )
$$;

comment on function mirror.get_status() is
'How the mirror does: events by state, the age in seconds of the oldest pending one, the newest dead letters, rows per table.';
revoke execute on function mirror.get_status() from public;
grant execute on function mirror.get_status() to service_role;
