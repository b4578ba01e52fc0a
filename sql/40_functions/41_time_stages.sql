create function mirror.stage_times(
    p_order uuid,
    p_stage public.delivery_stage,
    out sourcing_at timestamptz,
    out arrived_at timestamptz,
    out dispatched_at timestamptz,
    out delivered_at timestamptz
)
language sql stable
set search_path = ''
as $$
    select
        max(e.updated_at) filter (where e.stage = 'SOURCING'),
        max(e.updated_at) filter (where e.stage = 'ARRIVED'),
        max(e.updated_at) filter (where e.stage = 'DISPATCHED'),
        max(e.updated_at) filter (where e.stage = 'DELIVERED')
    from public.order_delivery_status_events as e
    where
        e.order_summary_id = p_order and e.from_stage <> e.stage and e.stage <= p_stage
        -- An order that went back has not reached what it went back from.
        and (e.stage = p_stage or not exists (
            select from public.order_delivery_status_events as back
            where
                back.order_summary_id = p_order and back.from_stage <> back.stage
                and back.stage < e.stage and back.updated_at > e.updated_at
        ))
$$;

comment on function mirror.stage_times(uuid, public.delivery_stage) is
'When, by its history, an order that is at p_stage reached the stages up to it.';
revoke execute on function mirror.stage_times(uuid, public.delivery_stage) from public;
grant execute on function mirror.stage_times(uuid, public.delivery_stage) to service_role;

create function mirror.time_stages(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    update public.order_delivery_status as s
    set
        sourcing_at = reached.sourcing_at,
        arrived_at = reached.arrived_at,
        dispatched_at = reached.dispatched_at,
        delivered_at = reached.delivered_at
    from (
        select k.id, t.*
        from public.order_delivery_status as k
        cross join lateral mirror.stage_times(k.order_summary_id, k.stage) as t
        where
            k.order_summary_id = any(p_orders)
            and (k.stage <> 'ORDER_CONFIRMED' or num_nonnulls(k.sourcing_at, k.arrived_at, k.dispatched_at, k.delivered_at) > 0)
    ) as reached
    where
        s.id = reached.id
        and (s.sourcing_at, s.arrived_at, s.dispatched_at, s.delivered_at)
        is distinct from (reached.sourcing_at, reached.arrived_at, reached.dispatched_at, reached.delivered_at);
end
$$;

comment on function mirror.time_stages(uuid[]) is
'Takes from the history when each of these orders reached its stages, up to the present one.';
revoke execute on function mirror.time_stages(uuid[]) from public;
grant execute on function mirror.time_stages(uuid[]) to service_role;
