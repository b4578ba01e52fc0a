create type mirror.stage_columns as (
    order_source_id text [],
    source_id text [],
    from_stage public.delivery_stage [],
    stage public.delivery_stage [],
    tracking_number text [],
    changed_at timestamptz []
);

create function mirror.record_delivery(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_carriers jsonb,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_delivery_status as s (
        store_id, order_summary_id, order_code, stage, tracking_number, carrier, updated_by
    )
    select
        o.store_id, o.id, o.order_code, o.delivery_stage, o.tracking_number, p_carriers ->> o.source_id,
        p_source::text
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    order by o.source_id
    on conflict (order_summary_id) do update set
        order_code = excluded.order_code,
        stage = excluded.stage,
        tracking_number = excluded.tracking_number,
        carrier = excluded.carrier,
        updated_by = excluded.updated_by
    where (s.order_code, s.stage, s.tracking_number, s.carrier)
    is distinct from (excluded.order_code, excluded.stage, excluded.tracking_number, excluded.carrier);

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, r.from_stage, r.stage, r.tracking_number, p_source::text, r.source_id,
        r.changed_at
    from unnest(
        p_stages.order_source_id, p_stages.source_id, p_stages.from_stage, p_stages.stage,
        p_stages.tracking_number, p_stages.changed_at
    ) as r (order_source_id, source_id, from_stage, stage, tracking_number, changed_at)
    inner join public.customer_orders_summary as o
        on o.store_id = p_store_id and o.source = p_source and o.source_id = r.order_source_id
    where o.id = any(p_orders)
    on conflict (order_summary_id, source_id) do nothing;

    -- An engine that keeps no history of its own: the reading is when we learned of the stage.
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, latest.stage, o.delivery_stage, o.tracking_number, p_source::text,
        'read ' || to_char(o.source_version at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        o.source_version
    from public.customer_orders_summary as o
    cross join lateral (
        select e.stage
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id
        order by e.updated_at desc
        limit 1
    ) as latest
    where
        o.id = any(p_orders) and not exists (
            select from public.order_delivery_status_events as e
            where e.order_summary_id = o.id and e.stage = o.delivery_stage
        );
end
$$;

comment on function mirror.record_delivery(uuid, public.commerce_engine, uuid[], jsonb, mirror.stage_columns) is
'Brings delivery status and its history up to the orders p_orders: part of upsert_orders.';
revoke execute on function mirror.record_delivery(
    uuid, public.commerce_engine, uuid[], jsonb, mirror.stage_columns
) from public;
grant execute on function mirror.record_delivery(
    uuid, public.commerce_engine, uuid[], jsonb, mirror.stage_columns
) to service_role;
