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

-- A product that was renamed is no lost hook; and what a run met twice is an example once.
create or replace function mirror.find_causes(p_integration_id uuid, p_entity text, p_source_ids text[], p_hashes text[]) returns table (
    source_id text,
    cause text,
    detail text
)
language sql stable
set search_path = ''
as $$
    select
        l.source_id,
        case
            when r.source_hash is null and edit.actor is not null then 'edited'
            when waiting.event_id is not null then 'pending'
            when event.state = 'dead' and coalesce(event.created_at >= r.updated_at, true) then 'dead'
            when r.source_id is null and event.state = 'skipped' then 'skipped'
            when r.source_version > '-infinity' and r.deleted_at is null and r.source_hash is null then 'unknown'
            when split_part(r.source_hash, ':', 1) <> split_part(l.source_hash, ':', 1) then 'remapped'
            when r.deleted_at is null and left(split_part(r.source_hash, ':', 2), 16) = left(split_part(l.source_hash, ':', 2), 16)
                then 'renamed'
            else 'unsent'
        end,
        case
            when r.source_hash is null and edit.actor is not null
                then format('%s, %s (UTC)', edit.actor, to_char(edit.created_at at time zone 'utc', 'YYYY-MM-DD HH24:MI'))
            when waiting.event_id is not null then waiting.event_id
            when event.state = 'dead' and coalesce(event.created_at >= r.updated_at, true)
            or r.source_id is null and event.state = 'skipped' then event.reason
        end
    from mirror.integrations as i
    cross join unnest(p_source_ids, p_hashes) as l (source_id, source_hash)
    left join mirror.source_rows(p_integration_id, p_entity, p_source_ids) as r on r.source_id = l.source_id
    left join lateral (
        select h.actor, h.created_at
        from mirror.hand_edits as h
        where h.store_id = i.store_id and h.source = i.engine and h.entity = p_entity and h.source_id = l.source_id
        order by h.created_at desc
        limit 1
    ) as edit on true
    left join lateral (
        select e.event_id
        from mirror.webhook_events as e
        where
            e.integration_id = i.id and e.entity_id = l.source_id and mirror.is_about(e.event_type, p_entity)
            and e.state = 'pending'
        limit 1
    ) as waiting on true
    left join lateral (
        select e.state, e.reason, e.created_at
        from mirror.webhook_events as e
        where e.integration_id = i.id and e.entity_id = l.source_id and mirror.is_about(e.event_type, p_entity)
        order by e.id desc
        limit 1
    ) as event on true
    where i.id = p_integration_id
$$;

comment on function mirror.find_causes(uuid, text, text[], text[]) is
'How entities came to differ from the engine. edited: changed by hand. pending: a hook waits. dead: the hook that '
'told of it could not be applied. skipped: it was taken as not for us. unknown: of before contents were compared. remapped: '
'by another version of the mapping, or as the shop was set then. renamed: a name in it is another one, of which no hook tells. '
'unsent: no hook told of it.';

create or replace function mirror.read_found(p_run_id uuid, p_entity text, p_limit integer default 20) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(f.entry order by f.entry ->> 'state', f.id), '[]')
    from (
        select ranked.entry, ranked.id
        from (
            select
                d.entry, d.id, row_number() over (partition by d.entry ->> 'state' order by d.id, d.entry ->> 'source_id') as place
            from (
                select distinct on (e.entry ->> 'source_id') e.entry, r.id
                from mirror.sync_receipts as r
                cross join lateral jsonb_array_elements(r.found) as e (entry)
                where r.run_id = p_run_id and r.entity = p_entity
                order by e.entry ->> 'source_id', r.id
            ) as d
        ) as ranked
        where ranked.place <= p_limit
    ) as f
$$;

comment on function mirror.read_found(uuid, text, integer) is
'Up to p_limit examples of each kind of what a run found to differ, as mirror.sync_receipts.found has them.';
