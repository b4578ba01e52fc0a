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
    p_written mirror.written_orders,
    p_told mirror.order_columns,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_before jsonb;
    v_commanded uuid[] := '{}';
    v_orders uuid[];
begin
    -- Orders of which the engine was told something, or is to be.
    if false = any(p_written.is_new) then
        v_commanded := array(select distinct c.order_summary_id from mirror.outbox as c where c.order_summary_id = any(p_written.id));
    end if;

    -- Of most orders the engine tells no more than that they were placed, or what it told before: they are as they should be.
    v_orders := array(
        select o.id
        from (
            select w.id, w.is_new, r.*
            from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number, p_told.carrier)
                as r (source_id, stage, tracking_number, carrier)
            full join unnest(p_written.id, p_written.source_id, p_written.is_new) as w (id, source_id, is_new)
                on w.source_id = r.source_id
            offset 0 -- hashed, see mirror.replace_order_items
        ) as o
        left join lateral (
            select k.source_delivery_stage, k.source_tracking_number, d.carrier
            from public.customer_orders_summary as k
            left join public.order_delivery_status as d on d.order_summary_id = k.id
            where k.id = o.id and not o.is_new
            offset 0
        ) as known on true
        where
            o.id is not null
            and (
                o.stage is distinct from 'ORDER_CONFIRMED'
                or o.is_new and o.carrier is not null
                or not o.is_new
                and (known.source_delivery_stage, known.source_tracking_number, known.carrier)
                is distinct from (o.stage, o.tracking_number, o.carrier)
                or o.source_id in (
                    select c.order_source_id
                    from unnest(p_stages.order_source_id, p_stages.source_id) as c (order_source_id, source_id)
                    where c.source_id <> 'placed'
                )
                or o.id = any(v_commanded)
            )
    );
    if cardinality(v_orders) = 0 then
        return;
    end if;

    -- Where the orders were, as far as their deliveries did not only begin now.
    select coalesce(jsonb_object_agg(s.order_summary_id, s.stage), '{}') into v_before
    from public.order_delivery_status as s
    where s.order_summary_id = any(v_orders) and s.created_at < now();

    if cardinality(v_commanded) > 0 then
        perform mirror.recognize_commands(v_commanded, p_told, p_stages);
    end if;

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, r.from_stage, r.stage, r.tracking_number, p_source::text,
        (select mirror.current_actor()), r.source_id, r.changed_at
    from unnest(
        p_stages.order_source_id, p_stages.source_id, p_stages.from_stage, p_stages.stage,
        p_stages.tracking_number, p_stages.changed_at
    ) as r (order_source_id, source_id, from_stage, stage, tracking_number, changed_at)
    cross join lateral (
        select k.id, k.store_id, k.order_code
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each: a planner that does not know the table yet would read all orders of the store
    ) as o
    where
        o.id = any(v_orders)
        -- What came of a command is in the history as the admin's.
        and not (o.id = any(v_commanded) and exists (
            select from mirror.outbox as c where c.order_summary_id = o.id and c.change_source_id = r.source_id
        ))
    on conflict (order_summary_id, store_id, source_id) do nothing;

    if cardinality(v_commanded) > 0 then
        perform mirror.merge_deliveries(v_commanded, p_told, p_stages);
        perform mirror.complete_history(v_commanded, v_before);
    end if;

    -- Of all others, what the engine tells counts as soon as it is something else than before, stage and number each for itself.
    with told as (
        select
            o.id, r.stage, r.tracking_number,
            o.source_delivery_stage is distinct from r.stage as has_new_stage,
            o.source_tracking_number is distinct from r.tracking_number as has_new_number
        from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number)
            as r (source_id, stage, tracking_number)
        cross join lateral (
            select k.id, k.source_delivery_stage, k.source_tracking_number
            from public.customer_orders_summary as k
            where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
            offset 0
        ) as o
        where
            o.id = any(v_orders) and o.id <> all(v_commanded)
            and (o.source_delivery_stage, o.source_tracking_number) is distinct from (r.stage, r.tracking_number)
    ), noted as (
        update public.customer_orders_summary as o
        set source_delivery_stage = told.stage, source_tracking_number = told.tracking_number
        from told
        where o.id = told.id
    )
    update public.order_delivery_status as s
    set
        stage = case when told.has_new_stage then told.stage else s.stage end,
        tracking_number = case when told.has_new_number then told.tracking_number else s.tracking_number end,
        note = null,
        updated_by = p_source::text
    from told
    where
        s.order_summary_id = told.id
        and (
            told.has_new_stage and s.stage <> told.stage
            or told.has_new_number and s.tracking_number is distinct from told.tracking_number
        );

    update public.order_delivery_status as s
    set carrier = r.carrier
    from unnest(p_told.source_id, p_told.carrier) as r (source_id, carrier)
    cross join lateral (
        select d.id, k.id as order_summary_id, d.carrier
        from public.customer_orders_summary as k
        inner join public.order_delivery_status as d on d.order_summary_id = k.id
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
        offset 0
    ) as known
    where
        known.order_summary_id = any(v_orders) and known.carrier is distinct from r.carrier and s.id = known.id;

    -- An engine that keeps no history of its own: the reading is when we learned of the stage.
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, coalesce((v_before ->> o.id::text)::public.delivery_stage, latest.stage),
        o.source_delivery_stage, o.source_tracking_number, p_source::text, (select mirror.current_actor()),
        'read ' || to_char(o.source_version at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        o.source_version
    from public.customer_orders_summary as o
    cross join lateral (
        select e.stage
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id and e.updated_by = p_source::text
        order by e.updated_at desc, e.stage desc
        limit 1
    ) as latest
    where o.id = any(v_orders) and o.id <> all(v_commanded) and latest.stage <> o.source_delivery_stage;

    perform mirror.time_stages(v_orders);
end
$$;

comment on function mirror.record_delivery(
    uuid, public.commerce_engine, mirror.written_orders, mirror.order_columns, mirror.stage_columns
) is
'Brings delivery status and its history up to what the engine tells of the orders p_written: part of upsert_orders.';
revoke execute on function mirror.record_delivery(
    uuid, public.commerce_engine, mirror.written_orders, mirror.order_columns, mirror.stage_columns
) from public;
grant execute on function mirror.record_delivery(
    uuid, public.commerce_engine, mirror.written_orders, mirror.order_columns, mirror.stage_columns
) to service_role;
