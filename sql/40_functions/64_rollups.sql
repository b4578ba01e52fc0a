create function mirror.roll_up_deliveries(
    p_before public.order_delivery_status[],
    p_after public.order_delivery_status[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into mirror.delivery_stage_counts (store_id, stage, orders)
    select r.store_id, r.stage, sum(r.weight)
    from (
        select b.store_id, b.stage, -1 as weight
        from unnest(p_before) as b
        where not b.is_cancelled
        union all
        select a.store_id, a.stage, 1
        from unnest(p_after) as a
        where not a.is_cancelled
    ) as r
    group by r.store_id, r.stage
    having sum(r.weight) <> 0;

    insert into mirror.delivery_durations (store_id, day, from_stage, stage, hours, orders)
    select d.store_id, d.day, d.from_stage, d.stage, d.hours, sum(d.weight)
    from (
        select b.*, -1 as weight from mirror.delivery_steps(p_before) as b
        union all
        select a.*, 1 from mirror.delivery_steps(p_after) as a
    ) as d
    group by d.store_id, d.day, d.from_stage, d.stage, d.hours
    having sum(d.weight) <> 0;
end
$$;

comment on function mirror.roll_up_deliveries(public.order_delivery_status[], public.order_delivery_status[]) is
'Takes deliveries as they were before a change out of what the statistics read, and adds them as they are after it.';
revoke execute on function mirror.roll_up_deliveries(public.order_delivery_status[], public.order_delivery_status[]) from public;
grant execute on function mirror.roll_up_deliveries(
    public.order_delivery_status[], public.order_delivery_status[]
) to service_role;

create function mirror.delivery_steps(p_rows public.order_delivery_status[])
returns table (
    store_id uuid,
    day date,
    from_stage public.delivery_stage,
    stage public.delivery_stage,
    hours integer
)
language sql stable
set search_path = ''
as $$
    select
        r.store_id, (step.reached_at at time zone 'utc')::date, step.from_stage, step.stage,
        greatest(0, floor(extract(epoch from step.reached_at - step.from_at) / 3600))::integer
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
$$;

comment on function mirror.delivery_steps(public.order_delivery_status[]) is
'The steps from stage to stage that these deliveries have made, each with its day (UTC) and the whole hours that it took.';
revoke execute on function mirror.delivery_steps(public.order_delivery_status[]) from public;
grant execute on function mirror.delivery_steps(public.order_delivery_status[]) to service_role;

create function mirror.fold_delivery_rollups() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_folded integer;
begin
    -- What is added meanwhile is not seen here, and stays as it is until the next time.
    with taken as (
        delete from mirror.delivery_stage_counts
        returning store_id, stage, orders
    )
    insert into mirror.delivery_stage_counts (store_id, stage, orders)
    select t.store_id, t.stage, sum(t.orders)
    from taken as t
    group by t.store_id, t.stage
    having sum(t.orders) <> 0;

    with days as materialized (
        select distinct d.store_id, d.day
        from mirror.delivery_durations as d
        where not d.is_folded
    ), taken as (
        delete from mirror.delivery_durations as d
        using days
        where d.store_id = days.store_id and d.day = days.day
        returning d.store_id, d.day, d.from_stage, d.stage, d.hours, d.orders
    )
    insert into mirror.delivery_durations (store_id, day, from_stage, stage, hours, orders, is_folded)
    select t.store_id, t.day, t.from_stage, t.stage, t.hours, sum(t.orders), true
    from taken as t
    group by t.store_id, t.day, t.from_stage, t.stage, t.hours
    having sum(t.orders) <> 0;
    get diagnostics v_folded = row_count;
    return v_folded;
end
$$;

comment on function mirror.fold_delivery_rollups() is
'Makes one row of many in what the delivery statistics read, and returns how many rows it wrote: the sums stay the same, and '
'reading them stays fast.';
revoke execute on function mirror.fold_delivery_rollups() from public;
grant execute on function mirror.fold_delivery_rollups() to service_role;

create function mirror.roll_up_new_deliveries() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.roll_up_deliveries('{}', array(select row(a.*)::public.order_delivery_status from after as a));
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
    full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
    where
        (a.store_id, a.stage, a.is_cancelled, a.confirmed_at, a.sourcing_at, a.arrived_at, a.dispatched_at, a.delivered_at)
        is distinct from
        (b.store_id, b.stage, b.is_cancelled, b.confirmed_at, b.sourcing_at, b.arrived_at, b.dispatched_at, b.delivered_at);
    if v_after is not null then
        perform mirror.roll_up_deliveries(v_before, v_after);
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
    perform mirror.roll_up_deliveries(array(select row(b.*)::public.order_delivery_status from before as b), '{}');
    return null;
end
$$;

comment on function mirror.roll_up_ended_deliveries() is 'Trigger: see mirror.roll_up_deliveries.';
revoke execute on function mirror.roll_up_ended_deliveries() from public;
