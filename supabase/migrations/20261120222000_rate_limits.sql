-- Requests have ids, which the events that they bring keep; how often somebody may ask is counted for all processes together.

alter table mirror.webhook_events add column request_id text;
comment on column mirror.webhook_events.request_id is
'X-Request-ID of the request that brought it: as in the log and in the answer.';

alter type mirror.event_columns add attribute request_id text [];

create or replace function mirror.accept_events(p_events json) returns boolean[]
language plpgsql
set search_path = ''
-- Planned once a connection. How many events come is known beforehand, and would have Postgres plan each call anew.
set plan_cache_mode = 'force_generic_plan'
as $$
declare
    v_events mirror.event_columns := json_populate_record(null::mirror.event_columns, p_events);
    v_accepted boolean[];
begin
    with arriving as (
        select *
        from unnest(
            v_events.integration_id, v_events.event_id, v_events.event_type, v_events.entity_id, v_events.payload,
            v_events.request_id
        ) with ordinality as t (integration_id, event_id, event_type, entity_id, payload, request_id, position)
    ), inserted as (
        insert into mirror.webhook_events (integration_id, event_id, event_type, entity_id, payload, request_id)
        select integration_id, event_id, event_type, entity_id, payload, request_id
        from (
            select distinct on (integration_id, event_id) *
            from arriving
            order by integration_id, event_id, position
        ) as firsts
        where not exists (
            select from mirror.seen_events as s
            where s.integration_id = firsts.integration_id and s.event_id = firsts.event_id
            offset 0 -- one look-up each: joined, the table would be read by what it held when a connection began
        )
        order by integration_id, event_id
        on conflict (integration_id, event_id) do nothing
        returning integration_id, event_id
    ), firsts as (
        select integration_id, event_id, min(position) as position
        from arriving
        group by integration_id, event_id
    )
    select array_agg(inserted.event_id is not null order by arriving.position)
    into v_accepted
    from arriving
    left join firsts using (integration_id, event_id, position)
    left join inserted
        on inserted.integration_id = firsts.integration_id and inserted.event_id = firsts.event_id;

    if true = any(v_accepted) then
        perform pg_notify('mirror_inbox', '');
    end if;
    return coalesce(v_accepted, '{}');
end
$$;

drop function mirror.list_events(mirror.event_state, text, text, text, timestamptz, text, text[], integer);
drop function mirror.count_events(mirror.event_state, text, text, text, timestamptz, text, text[]);
drop function mirror.retry_events(mirror.event_state, text, text, text, timestamptz, text, text[]);
drop function mirror.skip_events(text, mirror.event_state, text, text, text, timestamptz, text, text[]);
drop function mirror.show_event(text, text);

create function mirror.list_events(
    p_state mirror.event_state default null,
    p_type text default null,
    p_entity text default null,
    p_integration text default null,
    p_since timestamptz default null,
    p_reason text default null,
    p_events text[] default null,
    p_request text default null,
    p_limit integer default 50
) returns table (
    id uuid,
    integration text,
    event_id text,
    event_type text,
    entity_id text,
    state mirror.event_state,
    is_leased boolean,
    attempts integer,
    arrived_at timestamptz,
    available_at timestamptz,
    settled_at timestamptz,
    reason text,
    request_id text
)
language plpgsql stable
set search_path = ''
as $$
declare
    -- Only what is asked for is in the query, so that each question finds its index.
    v_conditions constant text := concat_ws(
        ' and ',
        'e.integration_id = i.id',
        case when p_state is not null then format('e.state = %L', p_state) end,
        case when p_type is not null then 'e.event_type = $1' end,
        case when p_entity is not null then 'e.entity_id = $2' end,
        case when p_integration is not null then 'i.slug = $3' end,
        case when p_since is not null then 'e.created_at >= $4' end,
        case when p_reason is not null then 'position(lower($5) in lower(e.reason)) > 0' end,
        case when p_events is not null then 'e.event_id = any($6)' end,
        case when p_request is not null then 'e.request_id = $8' end
    );
begin
    return query execute
        'select e.id, i.slug, e.event_id, e.event_type, e.entity_id, e.state, '
        'e.claimed_by is not null and e.available_at > now(), e.attempts, e.created_at, e.available_at, e.settled_at, '
        'e.reason, e.request_id '
        'from mirror.integrations as i cross join mirror.webhook_events as e '
        'where ' || v_conditions || ' order by e.id desc limit $7'
    using p_type, p_entity, p_integration, p_since, p_reason, p_events, p_limit, p_request;
end
$$;

comment on function mirror.list_events(
    mirror.event_state, text, text, text, timestamptz, text, text[], text, integer
) is
'Events of the inbox, the newest first: of a state, a type, an entity (the engine''s id), an integration (its slug), arrived '
'since then, with these words in their reason, with these ids, brought by this request (X-Request-ID). No payloads: '
'mirror.show_event has them.';
revoke execute on function mirror.list_events(
    mirror.event_state, text, text, text, timestamptz, text, text[], text, integer
) from public;
grant execute on function mirror.list_events(
    mirror.event_state, text, text, text, timestamptz, text, text[], text, integer
) to service_role;

create function mirror.count_events(
    p_state mirror.event_state default null,
    p_type text default null,
    p_entity text default null,
    p_integration text default null,
    p_since timestamptz default null,
    p_reason text default null,
    p_events text[] default null,
    p_request text default null
) returns bigint
language sql stable
set search_path = ''
as $$
    select count(*)
    from mirror.list_events(p_state, p_type, p_entity, p_integration, p_since, p_reason, p_events, p_request, null)
$$;

comment on function mirror.count_events(mirror.event_state, text, text, text, timestamptz, text, text[], text) is
'How many events mirror.list_events has for the same choice.';
revoke execute on function mirror.count_events(mirror.event_state, text, text, text, timestamptz, text, text[], text)
from public;
grant execute on function mirror.count_events(mirror.event_state, text, text, text, timestamptz, text, text[], text)
to service_role;

create function mirror.show_event(p_event text, p_integration text default null) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(to_jsonb(e) || jsonb_build_object('payload', w.payload)), '[]')
    from mirror.list_events(p_events => array[p_event], p_integration => p_integration) as e
    inner join mirror.webhook_events as w using (id)
$$;

comment on function mirror.show_event(text, text) is
'The events with this id, one for each integration that has one, with their payloads: a customer''s data.';
revoke execute on function mirror.show_event(text, text) from public;
grant execute on function mirror.show_event(text, text) to service_role;

create function mirror.retry_events(
    p_state mirror.event_state default null,
    p_type text default null,
    p_entity text default null,
    p_integration text default null,
    p_since timestamptz default null,
    p_reason text default null,
    p_events text[] default null,
    p_request text default null
) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_state constant mirror.event_state := coalesce(p_state, case when p_events is null then 'dead'::mirror.event_state end);
    v_chosen uuid[];
    v_known text[];
    v_retried uuid[];
    v_leased text[];
begin
    select coalesce(array_agg(e.id), '{}'), array_agg(e.event_id) into v_chosen, v_known
    from mirror.list_events(v_state, p_type, p_entity, p_integration, p_since, p_reason, p_events, p_request, null) as e;
    with retried as (
        update mirror.webhook_events as e
        set state = 'pending', available_at = now(), claimed_by = null, attempts = 0, reason = null, settled_at = null
        where e.id = any(v_chosen) and (e.claimed_by is null or e.available_at <= now())
        returning e.id
    )
    select coalesce(array_agg(r.id), '{}') into v_retried from retried as r;
    if v_retried <> '{}' then
        perform pg_notify('mirror_inbox', '');
    end if;
    select array_agg(e.event_id order by e.id) into v_leased
    from mirror.webhook_events as e
    where e.id = any(v_chosen) and e.id <> all(v_retried);
    return json_build_object(
        'retried', cardinality(v_retried),
        'leased', coalesce(v_leased, '{}'),
        'unknown', array(select id from unnest(p_events) as id where id <> all(coalesce(v_known, '{}')))
    );
end
$$;

comment on function mirror.retry_events(mirror.event_state, text, text, text, timestamptz, text, text[], text) is
'Has events applied again, with a fresh count of attempts: those with these ids, or all of the choice (without a state: the dead '
'ones), as mirror.list_events has them. Returns how many, the ids of those that a daemon has in hand and that were left alone, '
'and the ids that no event has. An older state never replaces a newer one, so that there is nothing to lose.';
revoke execute on function mirror.retry_events(mirror.event_state, text, text, text, timestamptz, text, text[], text)
from public;
grant execute on function mirror.retry_events(mirror.event_state, text, text, text, timestamptz, text, text[], text)
to service_role;

create function mirror.skip_events(
    p_why text,
    p_state mirror.event_state default null,
    p_type text default null,
    p_entity text default null,
    p_integration text default null,
    p_since timestamptz default null,
    p_reason text default null,
    p_events text[] default null,
    p_request text default null
) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_state constant mirror.event_state := coalesce(p_state, case when p_events is null then 'dead'::mirror.event_state end);
    v_why constant text := format('%s (skipped by %s)', trim(p_why), mirror.current_actor());
    v_chosen uuid[];
    v_known text[];
    v_skipped uuid[];
    v_leased text[];
    v_settled text[];
begin
    if coalesce(trim(p_why), '') = '' then
        raise exception 'An event is skipped for a reason.'
        using errcode = 'invalid_parameter_value', hint = 'Give it as p_why: whoever asks later finds it with the event.';
    end if;
    select coalesce(array_agg(e.id), '{}'), array_agg(e.event_id) into v_chosen, v_known
    from mirror.list_events(v_state, p_type, p_entity, p_integration, p_since, p_reason, p_events, p_request, null) as e;
    with skipped as (
        update mirror.webhook_events as e
        set state = 'skipped', claimed_by = null, reason = v_why, settled_at = now()
        where
            e.id = any(v_chosen) and e.state in ('pending', 'dead')
            and (e.claimed_by is null or e.available_at <= now())
        returning e.id
    )
    select coalesce(array_agg(s.id), '{}') into v_skipped from skipped as s;
    select
        array_agg(e.event_id order by e.id) filter (where e.state = 'pending'),
        array_agg(e.event_id order by e.id) filter (where e.state <> 'pending')
    into v_leased, v_settled
    from mirror.webhook_events as e
    where e.id = any(v_chosen) and e.id <> all(v_skipped);
    return json_build_object(
        'skipped', cardinality(v_skipped),
        'leased', coalesce(v_leased, '{}'),
        'settled', coalesce(v_settled, '{}'),
        'unknown', array(select id from unnest(p_events) as id where id <> all(coalesce(v_known, '{}')))
    );
end
$$;

comment on function mirror.skip_events(text, mirror.event_state, text, text, text, timestamptz, text, text[], text) is
'Leaves pending or dead events out, for the reason p_why: those with these ids, or all of the choice (without a state: the dead '
'ones), as mirror.list_events has them. Returns how many, the ids of those that a daemon has in hand, of those that are applied '
'or skipped already, and the ids that no event has.';
revoke execute on function mirror.skip_events(text, mirror.event_state, text, text, text, timestamptz, text, text[], text)
from public;
grant execute on function mirror.skip_events(text, mirror.event_state, text, text, text, timestamptz, text, text[], text)
to service_role;

drop function mirror.told_events(uuid, text, text);
drop function mirror.why_order(text, text);

create function mirror.told_events(p_integration_id uuid, p_entity text, p_source_id text) returns table (
    id uuid,
    event_id text,
    event_type text,
    read_at timestamptz,
    arrived_at timestamptz,
    settled_at timestamptz,
    outcome text,
    request_id text
)
language sql stable
set search_path = ''
as $$
    with told as materialized (
        select
            e.id, e.event_id, e.event_type, e.event_type like '%.deleted' as is_deletion,
            (e.payload ->> 'readAt')::timestamptz as read_at, e.created_at, e.settled_at, e.state, e.reason, e.attempts,
            e.available_at, e.claimed_by is not null and e.available_at > now() as is_leased, e.request_id
        from mirror.webhook_events as e
        where e.integration_id = p_integration_id and e.entity_id = p_source_id and e.event_type like p_entity || '.%'
    ), polled as materialized (
        select run.kind, receipt.read_at, receipt.created_at
        from mirror.sync_runs as run
        inner join mirror.sync_receipts as receipt on receipt.run_id = run.id and receipt.entity = p_entity
        where run.integration_id = p_integration_id and p_source_id = any(receipt.written_ids)
    )
    select
        t.id, t.event_id, t.event_type, t.read_at, t.created_at, t.settled_at,
        case
            when t.is_leased then format('in a daemon''s hands, attempt %s', t.attempts)
            when t.state = 'pending' and t.reason is not null
                then format('tried again at %s: %s', to_char(t.available_at, 'YYYY-MM-DD HH24:MI:SS'), t.reason)
            when t.state = 'pending' then 'waits to be applied'
            when t.state <> 'applied' then format('%s: %s', t.state, t.reason)
            when newer.read_at is not null and newer.settled_at = t.settled_at
                then 'superseded: a newer state was in the same slice'
            when newer.read_at is not null
                then format('ignored as older: event %s had been applied', newer.event_id)
            when poll.kind is not null then format('ignored as older: a %s had read it later', poll.kind)
            else 'applied'
        end,
        t.request_id
    from told as t
    left join lateral (
        -- What had been applied before, or with it, and was read later. A deletion does not replace a state, which it outlives.
        select n.read_at, n.settled_at, n.event_id
        from told as n
        where
            n.id <> t.id and n.state = 'applied' and n.settled_at <= t.settled_at and (t.is_deletion or not n.is_deletion)
            and (
                n.read_at > t.read_at
                or n.read_at = t.read_at and n.is_deletion = t.is_deletion and (n.settled_at, n.id) < (t.settled_at, t.id)
            )
        order by n.settled_at desc, n.read_at desc
        limit 1
    ) as newer on true
    left join lateral (
        select p.kind from polled as p where p.read_at >= t.read_at and p.created_at < t.settled_at limit 1
    ) as poll on true
$$;

comment on function mirror.told_events(uuid, text, text) is
'What the inbox holds about an entity (customer or order, by the engine''s id), and what became of each event: applied, ignored '
'as older than what was there, superseded by a newer one of its slice, skipped, dead, or still to be applied.';
revoke execute on function mirror.told_events(uuid, text, text) from public;
grant execute on function mirror.told_events(uuid, text, text) to service_role;

create function mirror.why_order(p_order_code text, p_store text default null) returns table (
    at timestamptz,
    kind text,
    who text,
    what text,
    outcome text
)
language sql stable
set search_path = ''
as $$
    with orders as materialized (
        select o.*, s.id as delivery_id
        from public.customer_orders_summary as o
        inner join public.stores as st on st.id = o.store_id
        left join public.order_delivery_status as s on s.order_summary_id = o.id
        where o.order_code = p_order_code and (p_store is null or st.slug = p_store)
    ), entities as materialized (
        select i.id as integration_id, i.slug, 'order' as entity, o.source_id
        from orders as o
        inner join mirror.integrations as i on i.store_id = o.store_id and i.engine = o.source
        union
        select i.id, i.slug, 'customer', c.source_id
        from orders as o
        inner join public.customers as c on c.id = o.customer_id
        inner join mirror.integrations as i on i.store_id = o.store_id and i.engine = o.source
        union
        -- An order that is not here, because no event of it could be applied.
        select i.id, i.slug, 'order', e.entity_id
        from mirror.webhook_events as e
        inner join mirror.integrations as i on i.id = e.integration_id
        inner join public.stores as st on st.id = i.store_id
        where
            e.state in ('pending', 'dead') and e.event_type like 'order.%' and e.entity_id is not null
            and e.payload #>> '{data,code}' = p_order_code and (p_store is null or st.slug = p_store)
    ), told as materialized (
        select k.slug, k.entity, t.*
        from entities as k
        cross join lateral mirror.told_events(k.integration_id, k.entity, k.source_id) as t
    ), assignments as materialized (
        select a.row_id
        from orders as o
        inner join mirror.audit_log as a on a.new_values ->> 'order_summary_id' = o.id::text
        where a.table_name = 'order_batch_assignments' and a.action = 'insert'
    )
    select
        t.arrived_at, case t.entity when 'order' then 'event' else 'customer' end, t.slug,
        format('%s %s', t.event_type, t.event_id)
        || coalesce(', read at ' || to_char(t.read_at, 'YYYY-MM-DD HH24:MI:SS.MS'), '')
        || coalesce(', request ' || t.request_id, ''),
        t.outcome || case
            when t.settled_at - t.arrived_at >= '1 second'
                then format(', %s after it came', date_trunc('second', t.settled_at - t.arrived_at))
            else ''
        end
    from told as t
    union all
    select
        a.created_at, 'person', a.actor,
        case a.new_values ->> 'state' when 'pending' then 'retried ' else 'skipped ' end || 'event ' || t.event_id,
        concat_ws(': ', 'it was ' || (a.old_values ->> 'state'), a.old_values ->> 'reason')
    from told as t
    inner join mirror.audit_log as a on a.row_id = t.id and a.table_name = 'webhook_events'
    union all
    select
        r.created_at, 'poll', k.slug, format('%s %s read it at %s', n.kind, n.id, to_char(r.read_at, 'YYYY-MM-DD HH24:MI:SS.MS')),
        case
            when k.source_id = any(r.tombstoned_ids) then 'gone from the shop: marked deleted'
            when k.source_id = any(r.written_ids) then 'written'
            else 'still differs: ' || (
                select d ->> 'reason' from jsonb_array_elements(r.differing) as d where d ->> 'source_id' = k.source_id limit 1
            )
        end
        || coalesce((
            select format(' (it was %s: %s)', f ->> 'state', f ->> 'cause')
            from jsonb_array_elements(r.found) as f
            where f ->> 'source_id' = k.source_id
            limit 1
        ), '')
    from entities as k
    inner join mirror.sync_runs as n on n.integration_id = k.integration_id
    inner join mirror.sync_receipts as r on r.run_id = n.id and r.entity = k.entity
    where
        k.entity = 'order' and (
            k.source_id = any(r.written_ids || r.tombstoned_ids)
            or r.differing @> jsonb_build_array(jsonb_build_object('source_id', k.source_id))
        )
    union all
    select
        -- What came in one transaction came in its own order.
        e.created_at + interval '1 microsecond' * row_number() over (partition by e.created_at order by e.updated_at, e.id),
        case when coalesce(e.actor, '') like 'engine:%' or e.updated_by = o.source::text then 'stage' else 'person' end,
        concat_ws(', ', e.updated_by, nullif(e.actor, 'engine:' || e.updated_by)),
        concat_ws(' → ', e.from_stage, e.stage) || coalesce(', tracking number ' || e.tracking_number, '') || coalesce(': ' || e.note, ''),
        'in its history'
    from orders as o
    inner join public.order_delivery_status_events as e on e.order_summary_id = o.id
    union all
    select
        a.created_at, 'person', a.actor,
        'changed ' || array_to_string(array(select jsonb_object_keys(changed.columns) order by 1), ', ') || ' of the delivery',
        'done'
    from orders as o
    inner join mirror.audit_log as a on a.row_id = o.delivery_id and a.table_name = 'order_delivery_status'
    cross join lateral (
        select a.new_values - '{stage,tracking_number,note,updated_by,is_cancelled}'::text[] as columns
    ) as changed
    where a.action = 'update' and a.actor not like 'engine:%' and changed.columns <> '{}'
    union all
    select
        h.created_at, 'person', h.actor,
        format('%s %s by hand: %s', h.action, h.table_name, array_to_string(h.columns, ', ')),
        'the next reconcile compares it with the shop'
    from orders as o
    inner join mirror.hand_edits as h
        on h.store_id = o.store_id and h.source = o.source and h.entity = 'order' and h.source_id = o.source_id
    union all
    select
        a.created_at, 'batch', a.actor,
        case
            when a.action = 'insert' then 'joined batch ' || (b.numbers ->> (a.new_values ->> 'batch_id'))
            when a.action = 'delete' then 'left batch ' || (b.numbers ->> (a.old_values ->> 'batch_id'))
            when a.new_values ? 'batch_id' then format(
                'moved from batch %s to %s', b.numbers ->> (a.old_values ->> 'batch_id'), b.numbers ->> (a.new_values ->> 'batch_id')
            )
            else 'its batch was completed'
        end,
        'done'
    from assignments as s
    inner join mirror.audit_log as a on a.row_id = s.row_id and a.table_name = 'order_batch_assignments'
    cross join lateral (
        select jsonb_object_agg(i.id, i.batch_number) as numbers
        from public.import_batches as i
        where i.id::text in (a.new_values ->> 'batch_id', a.old_values ->> 'batch_id')
    ) as b
    where a.action <> 'update' or a.new_values ?| '{batch_id,is_open}'
    union all
    select
        c.created_at, 'command', i.slug,
        format('%s: %s', c.command, concat_ws(', tracking number ', c.payload ->> 'stage', c.payload ->> 'tracking_number')),
        concat_ws(
            ', ',
            c.state::text || coalesce(': ' || c.reason, ''),
            case when c.attempts > 1 then format('%s attempts', c.attempts) end,
            case
                when c.settled_at - c.created_at >= '1 second'
                    then format('%s later', date_trunc('second', c.settled_at - c.created_at))
            end
        )
    from orders as o
    inner join mirror.outbox as c on c.order_summary_id = o.id
    inner join mirror.integrations as i on i.id = c.integration_id
    union all
    select
        k.created_at, 'conflict', k.mirror_changed_by,
        format('the shop says %s, and here it is %s', k.engine_stage, k.mirror_stage),
        coalesce(k.outcome, 'open: choose a side in mirror.sync_conflicts')
    from orders as o
    inner join mirror.sync_conflicts as k on k.order_summary_id = o.id
    order by 1, 2, 4
$$;

comment on function mirror.why_order(text, text) is
'The story of an order, in the order of time: each event, poll, person, batch or command that had to do with it or its customer, '
'and what became of that; of the store with that slug, or of any. An order that never became a row is found by the events of '
'it that wait or are dead.';
revoke execute on function mirror.why_order(text, text) from public;
grant execute on function mirror.why_order(text, text) to service_role;

create table mirror.request_counts (
    scope text not null,
    subject text not null,
    used integer not null,
    ends_at timestamptz not null,
    primary key (scope, subject)
) with (fillfactor = 80);

comment on table mirror.request_counts is
'How much of a rate limit is used up or handed out, and until when that counts. What asks rarely is not here.';
comment on column mirror.request_counts.scope is 'Which limit.';
comment on column mirror.request_counts.subject is
'Whose: the salted hash of a network address, an order''s code, a phone number or an integration.';
comment on column mirror.request_counts.used is 'More than the limit: somebody was refused.';
comment on column mirror.request_counts.ends_at is 'From then on it begins anew.';

create index request_counts_ends_at on mirror.request_counts (ends_at);

create table mirror.request_salt (
    is_only boolean primary key default true check (is_only),
    salt text not null
    default encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex') check (salt <> '')
);

comment on table mirror.request_salt is
'Goes into the hashes of mirror.request_counts, so that they tell nothing elsewhere. One row.';

insert into mirror.request_salt default values;

create type mirror.lease_columns as (
    scope text [],
    subject text [],
    quota integer [],
    seconds integer [],
    spent integer [],
    wanted integer []
);

create function mirror.lease_requests(p_leases json) returns table (granted integer, used integer, wait_seconds integer)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    v_leases constant mirror.lease_columns := json_populate_record(null::mirror.lease_columns, p_leases);
    v_now constant timestamptz := clock_timestamp();
begin
    return query
    with asked as (
        select
            t.position, t.scope, t.quota, t.seconds, t.spent, t.wanted,
            encode(sha256(convert_to(concat_ws(':', s.salt, t.scope, t.subject), 'UTF8')), 'hex') as subject
        from unnest(
            v_leases.scope, v_leases.subject, v_leases.quota, v_leases.seconds, v_leases.spent, v_leases.wanted
        ) with ordinality as t (scope, subject, quota, seconds, spent, wanted, position)
        cross join mirror.request_salt as s
    ), counted as (
        insert into mirror.request_counts as c (scope, subject, used, ends_at)
        select a.scope, a.subject, a.spent + a.wanted, v_now + a.seconds * interval '1 second'
        from asked as a
        order by a.scope, a.subject
        on conflict (scope, subject) do update set
            used = case when c.ends_at > v_now then least(c.used, 1000000000) else 0 end + excluded.used,
            ends_at = case when c.ends_at > v_now then c.ends_at else excluded.ends_at end
        returning c.scope, c.subject, c.used, c.ends_at
    )
    select
        greatest(least(a.wanted, a.quota - (c.used - a.wanted)), 0),
        c.used,
        ceil(extract(epoch from c.ends_at - v_now))::integer
    from asked as a
    inner join counted as c on c.scope = a.scope and c.subject = a.subject
    order by a.position;
end
$$;

comment on function mirror.lease_requests(json) is
'Hands out parts of rate limits. Takes one JSON object with an array per column of mirror.lease_columns, no scope and subject '
'twice: of a quota for so many seconds, how many were spent without asking, and how many are wanted. Returns in the same order '
'how many are granted, how many all have taken or wanted, and in how many seconds it begins anew.';
revoke execute on function mirror.lease_requests(json) from public;
grant execute on function mirror.lease_requests(json) to service_role;

create function mirror.prune_request_counts() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deleted integer;
begin
    delete from mirror.request_counts where ends_at < now();
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function mirror.prune_request_counts() is
'Deletes what no longer counts against a rate limit; returns how many. Runs by itself every ten minutes.';
revoke execute on function mirror.prune_request_counts() from public;
grant execute on function mirror.prune_request_counts() to service_role;

create function mirror.get_readiness(p_versions text[]) returns table (pending text[], overdue_seconds double precision)
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    select
        mirror.pending_migrations(p_versions),
        coalesce((
            select extract(epoch from now() - min(e.available_at))::double precision
            from mirror.webhook_events as e
            where e.state = 'pending' and e.available_at <= now()
        ), 0);
end
$$;

comment on function mirror.get_readiness(text[]) is
'Whether the mirror is ready: which of these migrations are missing, and for how many seconds the inbox has held an event that '
'could be applied. What waits for its next attempt does not count.';
revoke execute on function mirror.get_readiness(text[]) from public;
grant execute on function mirror.get_readiness(text[]) to service_role;

create function mirror.get_sms_usage()
returns table (store text, spent numeric, budget numeric, sent numeric, store_limit integer)
language sql stable
set search_path = ''
as $$
    select
        s.slug,
        coalesce(sum(u.used) filter (where u.scope = 'budget day'), 0),
        o.daily_budget::numeric,
        coalesce(sum(u.used) filter (where u.scope = 'store day'), 0),
        o.store_daily
    from mirror.otp_settings as o
    inner join public.stores as s on s.id = o.store_id
    left join mirror.otp_usage as u
        on u.store_id = o.store_id and u.subject = '' and u.scope in ('budget day', 'store day') and u.ends_at > now()
    where s.is_active
    group by s.slug, o.daily_budget, o.store_daily
    order by s.slug
$$;

comment on function mirror.get_sms_usage() is
'What texts have cost each store in the day that is counted now, and what they may; how many were sent, and how many may be.';
revoke execute on function mirror.get_sms_usage() from public;
grant execute on function mirror.get_sms_usage() to service_role;

insert into mirror.schedule (job, command, every) values
('prune_request_counts', 'select mirror.prune_request_counts()', '10 minutes');

alter table mirror.request_counts enable row level security;
alter table mirror.request_counts force row level security;
alter table mirror.request_salt enable row level security;
alter table mirror.request_salt force row level security;

grant select, insert, update, delete on mirror.request_counts, mirror.request_salt to service_role;
