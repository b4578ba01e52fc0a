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
        select
            k.id,
            max(e.updated_at) filter (where e.stage = 'SOURCING') as sourcing_at,
            max(e.updated_at) filter (where e.stage = 'ARRIVED') as arrived_at,
            max(e.updated_at) filter (where e.stage = 'DISPATCHED') as dispatched_at,
            max(e.updated_at) filter (where e.stage = 'DELIVERED') as delivered_at
        from public.order_delivery_status as k
        left join public.order_delivery_status_events as e
            on
                e.order_summary_id = k.order_summary_id and e.from_stage <> e.stage and e.stage <= k.stage
                -- An order that went back has not reached what it went back from.
                and (e.stage = k.stage or not exists (
                    select from public.order_delivery_status_events as back
                    where
                        back.order_summary_id = k.order_summary_id and back.from_stage <> back.stage
                        and back.stage < e.stage and back.updated_at > e.updated_at
                ))
        where
            k.order_summary_id = any(p_orders)
            and (k.stage <> 'ORDER_CONFIRMED' or num_nonnulls(k.sourcing_at, k.arrived_at, k.dispatched_at, k.delivered_at) > 0)
        group by k.id
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
