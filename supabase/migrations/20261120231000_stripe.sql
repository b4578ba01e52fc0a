-- Stripe as an engine: which of its modes is mirrored, and runs that go through its lists.

alter table mirror.integrations add column is_test boolean;

comment on column mirror.integrations.is_test is
'Of an engine with a test mode (Stripe), whether that is mirrored: what happens in the other mode is skipped. Empty: the mode of '
'the API key, or without one whichever the hooks tell of.';

comment on column mirror.integrations.max_gone_share is
'Of all that a reconcile compares of a kind, the share that may be gone from the engine at once. More is refused and reported; '
'up to ten are always believed.';

drop function mirror.list_integrations();

create function mirror.list_integrations() returns table (
    id uuid,
    store_id uuid,
    slug text,
    engine text,
    secrets_variable text,
    money_precision smallint,
    phone_region text,
    is_test boolean
)
language sql stable
set search_path = ''
as $$
    select i.id, i.store_id, i.slug, i.engine::text, i.secrets_variable, i.money_precision, s.phone_region, i.is_test
    from mirror.integrations as i
    inner join public.stores as s on s.id = i.store_id
    where i.is_active and s.is_active
$$;

comment on function mirror.list_integrations() is 'The engines that are connected, with what reading their payloads needs.';
revoke execute on function mirror.list_integrations() from public;
grant execute on function mirror.list_integrations() to service_role;

alter table mirror.sync_cursors
drop constraint sync_cursors_entity_check,
add constraint sync_cursors_entity_check check (entity in (
    'customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'
));

alter table mirror.sync_receipts
drop constraint sync_receipts_entity_check,
add constraint sync_receipts_entity_check check (entity in (
    'customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'
));

alter table mirror.drift
drop constraint drift_entity_check,
add constraint drift_entity_check check (entity in (
    'customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'
));

create view mirror.provider_rows
with (security_invoker = true)
as
select
    'payment' as entity, p.store_id, p.source, p.source_id, p.source_version, p.source_hash, p.deleted_at, p.updated_at,
    p.initiated_at as made_at
from mirror.provider_payments as p
union all
select
    'refund', r.store_id, r.source, r.source_id, r.source_version, r.source_hash, r.deleted_at, r.updated_at, r.initiated_at
from mirror.provider_refunds as r
union all
select 'plan', l.store_id, l.source, l.source_id, l.source_version, l.source_hash, l.deleted_at, l.updated_at, null
from public.subscription_plans as l
union all
select 'subscription', s.store_id, s.source, s.source_id, s.source_version, s.source_hash, s.deleted_at, s.updated_at, null
from public.subscriptions as s
union all
select 'invoice', i.store_id, i.source, i.source_id, i.source_version, i.source_hash, i.deleted_at, i.updated_at, null
from public.invoices as i;

comment on view mirror.provider_rows is
'What is here of a payment provider''s objects, by kind: what a run compares with the provider''s lists. made_at is when the '
'provider made them, where we keep that.';

grant select on mirror.provider_rows to service_role;

create function mirror.is_about(p_event_type text, p_entity text) returns boolean
language sql immutable
set search_path = ''
as $$
    -- The ids of a payment provider name their kind, and its events are called otherwise than what is made of them.
    select p_entity not in ('customer', 'order') or p_event_type like p_entity || '.%'
$$;

comment on function mirror.is_about(text, text) is
'Whether an event of the inbox that has an entity''s id is of that entity''s kind.';
revoke execute on function mirror.is_about(text, text) from public;
grant execute on function mirror.is_about(text, text) to service_role;

create or replace function mirror.source_rows(p_integration_id uuid, p_entity text, p_source_ids text[]) returns table (
    source_id text,
    source_version timestamptz,
    source_hash text,
    deleted_at timestamptz,
    updated_at timestamptz
)
language plpgsql stable
set search_path = ''
as $$
begin
    if p_entity = 'customer' then
        return query
        select r.*
        from mirror.integrations as i
        cross join unnest(p_source_ids) as l (source_id)
        cross join lateral (
            select c.source_id, c.source_version, c.source_hash, c.deleted_at, c.updated_at
            from public.customers as c
            where c.store_id = i.store_id and c.source = i.engine and c.source_id = l.source_id
            offset 0
        ) as r
        where i.id = p_integration_id;
    elsif p_entity = 'order' then
        return query
        select r.*
        from mirror.integrations as i
        cross join unnest(p_source_ids) as l (source_id)
        cross join lateral (
            select o.source_id, o.source_version, o.source_hash, o.deleted_at, o.updated_at
            from public.customer_orders_summary as o
            where o.store_id = i.store_id and o.source = i.engine and o.source_id = l.source_id
            offset 0
        ) as r
        where i.id = p_integration_id;
    else
        return query
        select r.*
        from mirror.integrations as i
        cross join unnest(p_source_ids) as l (source_id)
        cross join lateral (
            select m.source_id, m.source_version, m.source_hash, m.deleted_at, m.updated_at
            from mirror.provider_rows as m
            where m.entity = p_entity and m.store_id = i.store_id and m.source = i.engine and m.source_id = l.source_id
            offset 0
        ) as r
        where i.id = p_integration_id;
    end if;
end
$$;

comment on function mirror.source_rows(uuid, text, text[]) is
'What tells whether these entities are here as the engine has them. Ids that are not here are not in it.';

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
'by another version of the mapping. unsent: no hook told of it.';

create or replace function mirror.sum_up(p_run_id uuid, p_claim uuid, p_entity text, p_counted bigint) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_run mirror.sync_runs := mirror.require_run(p_run_id, p_claim);
    v_seen bigint;
    v_listed bigint;
    v_agree boolean;
    v_differing bigint;
    v_removed bigint;
    v_drift mirror.drift;
begin
    -- A hook that was on its way when the slice was read is not one that was never sent.
    update mirror.sync_receipts as r
    set found = (
        select jsonb_agg(case
            when f.entry ->> 'cause' = 'unsent' and exists (
                select from mirror.webhook_events as e
                where
                    e.integration_id = v_run.integration_id and e.entity_id = f.entry ->> 'source_id'
                    and mirror.is_about(e.event_type, p_entity) and e.created_at >= v_run.created_at
            ) then f.entry || '{"cause": "late"}'
            else f.entry
        end)
        from jsonb_array_elements(r.found) as f (entry)
    )
    where r.run_id = p_run_id and r.entity = p_entity and r.found @> '[{"cause": "unsent"}]';

    select count(*) into v_seen from mirror.sync_seen as s where s.run_id = p_run_id and s.entity = p_entity;
    select coalesce(sum(r.listed), 0), bool_and(r.is_complete), coalesce(sum(jsonb_array_length(r.differing)), 0)
    into v_listed, v_agree, v_differing
    from mirror.sync_receipts as r
    where r.run_id = p_run_id and r.entity = p_entity and not r.is_superseded;
    -- Also where the numbers are equal: one that went and one that came meanwhile would cancel each other out.
    select count(*) into v_removed
    from mirror.sync_seen as s
    inner join mirror.integrations as i on i.id = v_run.integration_id
    inner join (
        select 'customer' as entity, c.store_id, c.source, c.source_id, c.deleted_at from public.customers as c
        union all
        select 'order', o.store_id, o.source, o.source_id, o.deleted_at from public.customer_orders_summary as o
        union all
        select m.entity, m.store_id, m.source, m.source_id, m.deleted_at from mirror.provider_rows as m
    ) as t on t.store_id = i.store_id and t.source = i.engine and t.entity = s.entity and t.source_id = s.source_id
    where s.run_id = p_run_id and s.entity = p_entity and t.deleted_at >= v_run.read_from;

    insert into mirror.drift as d (
        run_id, integration_id, entity, counted, seen, removed, missing, stale, gone, on_its_way, never_sent, differing, is_complete
    )
    select
        p_run_id, v_run.integration_id, p_entity, p_counted, v_seen, v_removed,
        count(*) filter (where f.state = 'missing' and not f.is_on_its_way),
        count(*) filter (where f.state = 'stale' and not f.is_on_its_way),
        count(*) filter (where f.state = 'gone' and not f.is_on_its_way),
        count(*) filter (where f.is_on_its_way),
        count(*) filter (where f.cause = 'unsent'),
        v_differing,
        coalesce(v_agree, false) and v_listed = v_seen and p_counted = v_seen - v_removed
    from (
        select distinct on (e.entry ->> 'source_id')
            e.entry ->> 'state' as state, e.entry ->> 'cause' as cause, e.entry ->> 'cause' in ('late', 'pending') as is_on_its_way
        from mirror.sync_receipts as r
        cross join lateral jsonb_array_elements(r.found) as e (entry)
        where r.run_id = p_run_id and r.entity = p_entity
        order by e.entry ->> 'source_id', r.id
    ) as f
    on conflict (run_id, entity) do update set
        counted = excluded.counted, seen = excluded.seen, removed = excluded.removed, missing = excluded.missing,
        stale = excluded.stale, gone = excluded.gone, on_its_way = excluded.on_its_way, never_sent = excluded.never_sent,
        differing = excluded.differing, is_complete = excluded.is_complete
    returning d.* into v_drift;
    return json_build_object(
        'entity', p_entity, 'counted', p_counted, 'seen', v_seen, 'removed', v_removed, 'missing', v_drift.missing,
        'stale', v_drift.stale, 'gone', v_drift.gone, 'on_its_way', v_drift.on_its_way, 'never_sent', v_drift.never_sent,
        'differing', v_differing, 'is_complete', v_drift.is_complete, 'is_forgotten', v_listed <> v_seen,
        'read_from', v_run.read_from
    );
end
$$;

comment on function mirror.sum_up(uuid, uuid, text, bigint) is
'Adds up what a run found of an entity, when it was read to its end, and compares it with the number that the engine counts '
'in all. Writes mirror.drift, and returns the same. is_forgotten: a crash of the server has emptied mirror.sync_seen.';

create or replace function mirror.list_rows(
    p_integration_id uuid,
    p_entity text,
    p_since timestamptz,
    p_after text,
    p_limit integer
) returns table (source_id text, source_version timestamptz, is_live boolean)
language plpgsql stable
set search_path = ''
as $$
begin
    if p_entity = 'customer' then
        return query
        select c.source_id, c.source_version, c.deleted_at is null and c.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customers as c on c.store_id = i.store_id and c.source = i.engine
        where i.id = p_integration_id and c.source_id > p_after and (p_since is null or c.registered_at >= p_since)
        order by c.source_id
        limit p_limit;
    elsif p_entity = 'order' and p_since is null then
        return query
        select o.source_id, o.source_version, o.deleted_at is null and o.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
        where i.id = p_integration_id and o.source_id > p_after
        order by o.source_id
        limit p_limit;
    elsif p_entity = 'order' then -- few of many: by the index of order dates
        return query
        select o.source_id, o.source_version, o.deleted_at is null and o.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.order_date >= p_since
        where i.id = p_integration_id and o.source = i.engine and o.source_id > p_after
        order by o.source_id
        limit p_limit;
    else
        return query
        select m.source_id, m.source_version, m.deleted_at is null and m.source_version > '-infinity'
        from mirror.integrations as i
        inner join mirror.provider_rows as m on m.store_id = i.store_id and m.source = i.engine and m.entity = p_entity
        where i.id = p_integration_id and m.source_id > p_after and (p_since is null or m.made_at >= p_since)
        order by m.source_id
        limit p_limit;
    end if;
end
$$;

comment on function mirror.list_rows(uuid, text, timestamptz, text, integer) is
'The p_limit entities that follow the id p_after, of those registered, placed or made since p_since, if given. Live is what is '
'neither a tombstone nor a bare reference.';
