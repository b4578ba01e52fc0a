create function mirror.roll_up_deliveries(p_rows public.order_delivery_status[], p_weight integer) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_shard smallint := 0;
begin
    -- The first shard that nobody else has in hand: two that lock the same rows in different orders would wait in a circle.
    while not pg_try_advisory_xact_lock(hashtext('commerce-mirror: delivery roll-up'), v_shard) loop
        v_shard := v_shard + 1;
    end loop;

    insert into mirror.delivery_stage_counts as t (store_id, stage, shard, orders)
    select r.store_id, r.stage, v_shard, p_weight * count(*)
    from unnest(p_rows) as r
    where not r.is_cancelled
    group by r.store_id, r.stage
    order by r.store_id, r.stage
    on conflict (store_id, stage, shard) do update set orders = t.orders + excluded.orders;

    insert into mirror.delivery_durations as t (store_id, day, from_stage, stage, hours, shard, orders)
    select
        r.store_id, (step.reached_at at time zone 'utc')::date as day, step.from_stage, step.stage,
        greatest(0, floor(extract(epoch from step.reached_at - step.from_at) / 3600))::integer as hours,
        v_shard, p_weight * count(*)
    from unnest(p_rows) as r
    cross join lateral (
        select
            s.stage, s.reached_at,
            lag(s.stage) over (order by s.stage) as from_stage,
            lag(s.reached_at) over (order by s.stage) as from_at
        from (
            values
            ('ORDER_CONFIRMED'::public.delivery_stage, r.confirmed_at),
            ('SOURCING', r.sourcing_at),
            ('ARRIVED', r.arrived_at),
            ('DISPATCHED', r.dispatched_at),
            ('DELIVERED', r.delivered_at)
        ) as s (stage, reached_at)
        where s.reached_at is not null
    ) as step
    where not r.is_cancelled and r.stage <> 'ORDER_CONFIRMED' and step.from_stage is not null
    group by 1, 2, 3, 4, 5
    order by 1, 2, 4, 3, 5
    on conflict (store_id, day, stage, from_stage, hours, shard) do update set orders = t.orders + excluded.orders;
end
$$;

comment on function mirror.roll_up_deliveries(public.order_delivery_status[], integer) is
'Adds these deliveries to what the statistics read (weight 1), or takes them out (weight -1).';
revoke execute on function mirror.roll_up_deliveries(public.order_delivery_status[], integer) from public;
grant execute on function mirror.roll_up_deliveries(public.order_delivery_status[], integer) to service_role;

create function mirror.roll_up_new_deliveries() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.roll_up_deliveries(array(select row(a.*)::public.order_delivery_status from after as a), 1);
    return null;
end
$$;

comment on function mirror.roll_up_new_deliveries() is 'Trigger: see mirror.roll_up_deliveries.';
revoke execute on function mirror.roll_up_new_deliveries() from public;

create function mirror.roll_up_changed_deliveries() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_before public.order_delivery_status[];
    v_after public.order_delivery_status[];
begin
    select
        array_agg(row(b.*)::public.order_delivery_status),
        array_agg(row(a.*)::public.order_delivery_status)
    into v_before, v_after
    from after as a
    inner join before as b using (id)
    where
        (a.store_id, a.stage, a.is_cancelled, a.confirmed_at, a.sourcing_at, a.arrived_at, a.dispatched_at, a.delivered_at)
        is distinct from
        (b.store_id, b.stage, b.is_cancelled, b.confirmed_at, b.sourcing_at, b.arrived_at, b.dispatched_at, b.delivered_at);
    if v_after is not null then
        perform mirror.roll_up_deliveries(v_before, -1);
        perform mirror.roll_up_deliveries(v_after, 1);
    end if;
    return null;
end
$$;

comment on function mirror.roll_up_changed_deliveries() is 'Trigger: see mirror.roll_up_deliveries.';
revoke execute on function mirror.roll_up_changed_deliveries() from public;

create function mirror.roll_up_ended_deliveries() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.roll_up_deliveries(array(select row(b.*)::public.order_delivery_status from before as b), -1);
    return null;
end
$$;

comment on function mirror.roll_up_ended_deliveries() is 'Trigger: see mirror.roll_up_deliveries.';
revoke execute on function mirror.roll_up_ended_deliveries() from public;
