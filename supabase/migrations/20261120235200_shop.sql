-- What another shop brought up. Through the Data API, too, times are told in UTC, whatever the database's own time zone.
alter function public.mirror_call(text, json) set timezone = 'UTC';

-- A store's currency may be set when the first orders are there already.
create function mirror.follow_currency() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.take_turn();
    update public.customers as c
    set total_spent = s.spent
    from (
        select k.id, coalesce((k.spent_by_currency ->> new.currency)::numeric, 0) as spent
        from public.customers as k
        where k.store_id = new.id
    ) as s
    where c.id = s.id and c.total_spent is distinct from s.spent;
    return null;
end
$$;

comment on function mirror.follow_currency() is
'Trigger: of each customer of a store whose currency is another now, total_spent is what was spent in that one.';
revoke execute on function mirror.follow_currency() from public;

create trigger follow_currency after update of currency on public.stores
for each row when (old.currency is distinct from new.currency)
execute function mirror.follow_currency();

-- An order that the shop had delivered before the mirror came has no stage of ours, and is not stuck.
create or replace view mirror.stuck_deliveries
with (security_invoker = true)
as
select s.id, s.store_id, s.order_summary_id, s.order_code, s.stage, s.stage_since, s.tracking_number, h.hours as usual_hours
from (
    select st.id as store_id, stages.stage, coalesce(n.usual_hours, 14 * 24) as hours
    from public.stores as st
    cross join unnest(enum_range(null::public.delivery_stage)) as stages (stage)
    left join mirror.delivery_norms as n on st.id = n.store_id and stages.stage = n.stage
    where stages.stage <> 'DELIVERED'
) as h
inner join public.order_delivery_status as s
    on h.store_id = s.store_id and h.stage = s.stage and s.stage_since < now() - make_interval(hours => h.hours)
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
where s.stage <> 'DELIVERED' and not s.is_cancelled and o.order_state is distinct from 'Delivered';

comment on view mirror.stuck_deliveries is
'Orders that have been at their stage for longer than nine of ten usually are; 14 days where nothing is known yet. '
'What the engine says is delivered is not: a shop that was there before the mirror has many such orders, with no stage of ours.';
