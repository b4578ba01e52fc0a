create function public.get_batch_statistics(batch_uuid uuid)
returns table (
    batch_number text,
    status public.batch_status,
    total_orders integer,
    total_items bigint,
    revenue jsonb,
    orders_by_stage jsonb,
    completion_percentage numeric,
    target_order_count integer,
    progress_percentage numeric,
    age_days numeric,
    unpaid_orders bigint,
    cancelled_orders bigint
)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    with members as materialized (
        select
            o.id, o.currency, o.delivery_stage,
            o.total_with_tax - greatest(
                o.total_refunded + o.refunded_outside - greatest(o.total_paid - o.total_with_tax, 0), 0
            ) as spent, -- see mirror.refresh_customer_statistics
            o.total_paid < o.total_with_tax as is_unpaid,
            o.cancelled_at is null and o.deleted_at is null as is_active
        from public.order_batch_assignments as a
        inner join public.customer_orders_summary as o on o.id = a.order_summary_id
        where a.batch_id = batch_uuid
    ), totals as (
        select
            count(*) filter (where m.is_active) as orders,
            count(*) filter (where m.is_active and m.delivery_stage = 'DELIVERED') as delivered,
            count(*) filter (where m.is_active and m.is_unpaid) as unpaid,
            count(*) filter (where not m.is_active) as cancelled
        from members as m
    )
    select
        b.batch_number, b.status, t.orders::integer,
        coalesce((
            select sum(i.quantity)
            from members as m
            inner join public.customer_order_items as i on i.order_summary_id = m.id
            where m.is_active
        ), 0)::bigint,
        coalesce((
            select jsonb_object_agg(r.currency, r.amount)
            from (
                select m.currency, sum(m.spent) as amount
                from members as m
                where m.is_active
                group by m.currency
            ) as r
        ), '{}'),
        (
            select jsonb_object_agg(s.stage, coalesce(c.orders, 0))
            from unnest(enum_range(null::public.delivery_stage)) as s (stage)
            left join (
                select m.delivery_stage, count(*) as orders
                from members as m
                where m.is_active
                group by m.delivery_stage
            ) as c on c.delivery_stage = s.stage
        ),
        round(coalesce(100.0 * t.delivered / nullif(t.orders, 0), 0), 1),
        b.target_order_count,
        round(100.0 * t.orders / b.target_order_count, 1),
        round(extract(epoch from coalesce(b.completed_at, now()) - b.created_at) / 86400, 1),
        t.unpaid, t.cancelled
    from public.import_batches as b
    cross join totals as t
    where b.id = batch_uuid;
    if not found then
        raise exception 'There is no batch with the id %.', batch_uuid
        using
            errcode = 'PT404', -- which the Data API answers 404
            hint = 'Take it from the column id of import_batches.';
    end if;
end
$$;

comment on function public.get_batch_statistics(uuid) is
'A batch in figures: orders, items, revenue by currency (less refunds), orders by stage, how many per cent are delivered, '
'progress to its target, age in days, unpaid and cancelled orders. Cancelled orders count nowhere else.';
revoke execute on function public.get_batch_statistics(uuid) from public;
grant execute on function public.get_batch_statistics(uuid) to service_role;

create function mirror.percentile_hours(p_hours integer[], p_orders bigint[], p_fraction double precision) returns integer
language sql immutable parallel safe
set search_path = ''
as $$
    select min(h.hours)
    from (
        select t.hours, sum(t.orders) over (order by t.hours) as so_far, sum(t.orders) over () as total
        from unnest(p_hours, p_orders) as t (hours, orders)
    ) as h
    where h.total > 0 and h.so_far >= p_fraction * h.total
$$;

comment on function mirror.percentile_hours(integer[], bigint[], double precision) is
'The percentile (discrete) of a histogram: p_orders[i] orders took p_hours[i] hours.';
revoke execute on function mirror.percentile_hours(integer[], bigint[], double precision) from public;
grant execute on function mirror.percentile_hours(integer[], bigint[], double precision) to service_role;

create function mirror.delivery_statistics(p_store_id uuid, p_from timestamptz, p_to timestamptz)
returns table (
    orders_by_stage jsonb,
    median_hours jsonb,
    p90_hours jsonb,
    deliveries_per_day jsonb,
    stuck_orders bigint
)
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    with durations as materialized (
        select d.day, d.from_stage, d.stage, d.hours, d.orders
        from mirror.delivery_durations as d
        where
            d.store_id = p_store_id
            and d.day between (p_from at time zone 'utc')::date and (p_to at time zone 'utc')::date
    ), steps as materialized (
        select
            s.from_stage || ' → ' || s.stage as step,
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.5) as median,
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.9) as p90
        from (
            select d.from_stage, d.stage, d.hours, sum(d.orders) as orders
            from durations as d
            group by d.from_stage, d.stage, d.hours
            having sum(d.orders) > 0
        ) as s
        group by s.from_stage, s.stage
    )
    select
        (
            select jsonb_object_agg(s.stage, coalesce(c.orders, 0))
            from unnest(enum_range(null::public.delivery_stage)) as s (stage)
            left join (
                select t.stage, sum(t.orders) as orders
                from mirror.delivery_stage_counts as t
                where t.store_id = p_store_id
                group by t.stage
            ) as c on c.stage = s.stage
        ),
        coalesce((select jsonb_object_agg(s.step, s.median) from steps as s), '{}'),
        coalesce((select jsonb_object_agg(s.step, s.p90) from steps as s), '{}'),
        coalesce((
            select jsonb_object_agg(per_day.day, per_day.orders)
            from (
                select d.day, sum(d.orders) as orders
                from durations as d
                where d.stage = 'DELIVERED'
                group by d.day
                having sum(d.orders) > 0
            ) as per_day
        ), '{}'),
        (
            select count(*)
            from mirror.stuck_deliveries as k
            where k.store_id = p_store_id
        );
end
$$;

comment on function mirror.delivery_statistics(uuid, timestamptz, timestamptz) is
'As public.get_delivery_statistics, of any store.';
revoke execute on function mirror.delivery_statistics(uuid, timestamptz, timestamptz) from public;
grant execute on function mirror.delivery_statistics(uuid, timestamptz, timestamptz) to service_role;

create function public.get_delivery_statistics(
    "from" timestamptz default now() - interval '90 days',
    "to" timestamptz default now()
)
returns table (
    orders_by_stage jsonb,
    median_hours jsonb,
    p90_hours jsonb,
    deliveries_per_day jsonb,
    stuck_orders bigint
)
language plpgsql stable
set search_path = ''
as $$
begin
    return query select * from mirror.delivery_statistics(mirror.default_store_id(), "from", "to");
end
$$;

comment on function public.get_delivery_statistics(timestamptz, timestamptz) is
'How deliveries go: orders by stage now; the median and the 90th percentile, in whole hours, of the time between stages, and '
'deliveries per day, over the days (UTC) from "from" to "to"; and how many orders are stuck longer than usual. Of the default '
'store.';
revoke execute on function public.get_delivery_statistics(timestamptz, timestamptz) from public;
grant execute on function public.get_delivery_statistics(timestamptz, timestamptz) to service_role;

create function mirror.refresh_delivery_norms() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_norms integer;
begin
    insert into mirror.delivery_norms as n (store_id, stage, usual_hours)
    select d.store_id, d.from_stage, greatest(1, mirror.percentile_hours(array_agg(d.hours), array_agg(d.orders), 0.9))
    from (
        select t.store_id, t.from_stage, t.hours, sum(t.orders)::bigint as orders
        from mirror.delivery_durations as t
        where t.day > (now() at time zone 'utc')::date - 90
        group by t.store_id, t.from_stage, t.hours
        having sum(t.orders) > 0
    ) as d
    group by d.store_id, d.from_stage
    on conflict (store_id, stage) do update set usual_hours = excluded.usual_hours, updated_at = now();
    get diagnostics v_norms = row_count;
    return v_norms;
end
$$;

comment on function mirror.refresh_delivery_norms() is
'Learns from the last 90 days how long orders usually stay at each stage; returns how many norms it set.';
revoke execute on function mirror.refresh_delivery_norms() from public;
grant execute on function mirror.refresh_delivery_norms() to service_role;

create function mirror.refresh_expected_steps() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_steps integer;
begin
    insert into mirror.expected_steps as x (
        store_id, stage, is_of_batches, next_stage, median_hours, p90_hours, based_on
    )
    -- After a stage most orders go to one other: a shop with everything on the shelf leaves stages out.
    (
        select distinct on (s.store_id, s.from_stage)
            s.store_id, s.from_stage, false, s.stage,
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.5),
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.9),
            sum(s.orders)::integer
        from (
            select d.store_id, d.from_stage, d.stage, d.hours, sum(d.orders)::bigint as orders
            from mirror.delivery_durations as d
            where d.day > (now() at time zone 'utc')::date - 90
            group by d.store_id, d.from_stage, d.stage, d.hours
            having sum(d.orders) > 0
        ) as s
        group by s.store_id, s.from_stage, s.stage
        order by s.store_id, s.from_stage, sum(s.orders) desc, s.stage
    )
    union all
    select
        b.store_id, s.stage::public.delivery_stage, true, s.next_stage::public.delivery_stage,
        percentile_disc(0.5) within group (order by h.hours), percentile_disc(0.9) within group (order by h.hours),
        count(*)::integer
    from public.import_batches as b
    cross join lateral (
        values
        ('ORDER_CONFIRMED', 'SOURCING', b.created_at, b.ordered_at),
        ('SOURCING', 'ARRIVED', b.ordered_at, b.arrived_at),
        ('ARRIVED', 'DISPATCHED', b.arrived_at, b.dispatched_at)
    ) as s (stage, next_stage, from_at, at)
    cross join lateral (select floor(extract(epoch from s.at - s.from_at) / 3600)::integer as hours) as h
    where b.order_count > 0 and s.at between now() - interval '1 year' and now() and s.at >= s.from_at
    group by b.store_id, s.stage, s.next_stage
    on conflict (store_id, stage, is_of_batches) do update set
        next_stage = excluded.next_stage,
        median_hours = excluded.median_hours,
        p90_hours = excluded.p90_hours,
        based_on = excluded.based_on,
        updated_at = now();
    get diagnostics v_steps = row_count;
    delete from mirror.expected_steps as x where x.updated_at < now();
    return v_steps;
end
$$;

comment on function mirror.refresh_expected_steps() is
'Learns what customers may be told to expect: from the last 90 days of deliveries, and from the last year''s import batches; '
'returns how many steps it knows.';
revoke execute on function mirror.refresh_expected_steps() from public;
grant execute on function mirror.refresh_expected_steps() to service_role;
