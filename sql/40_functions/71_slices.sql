-- A slice of a run: compared with what is here, and, when what differs was fetched, written, verified and receipted in one
-- transaction.

create type mirror.fingerprint_columns as (
    source_id text [],
    source_hash text []
);

create type mirror.told_columns as (
    source_id text [],
    outcome text [],
    source_version timestamptz [],
    source_hash text [],
    reason text []
);

create function mirror.source_rows(p_integration_id uuid, p_entity text, p_source_ids text[]) returns table (
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
revoke execute on function mirror.source_rows(uuid, text, text[]) from public;
grant execute on function mirror.source_rows(uuid, text, text[]) to service_role;

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

create function mirror.find_causes(p_integration_id uuid, p_entity text, p_source_ids text[], p_hashes text[]) returns table (
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
revoke execute on function mirror.find_causes(uuid, text, text[], text[]) from public;
grant execute on function mirror.find_causes(uuid, text, text[], text[]) to service_role;

create function mirror.compare_slice(p_run_id uuid, p_slice json) returns json
language plpgsql stable
set search_path = ''
as $$
declare
    v_slice constant jsonb := p_slice; -- parsed once
    v_entity constant text := v_slice ->> 'entity';
    v_read_at constant timestamptz := v_slice ->> 'read_at';
    v_listed mirror.fingerprint_columns := jsonb_populate_record(null::mirror.fingerprint_columns, v_slice -> 'listed');
    v_run mirror.sync_runs;
    v_ids text[];
    v_hashes text[];
    v_states text[];
begin
    select * into strict v_run from mirror.sync_runs as r where r.id = p_run_id;
    select array_agg(l.source_id), array_agg(l.source_hash), array_agg(case
        when r.source_id is null or r.source_version = '-infinity' and r.deleted_at is null then 'missing' else 'stale'
    end)
    into v_ids, v_hashes, v_states
    from unnest(v_listed.source_id, v_listed.source_hash) as l (source_id, source_hash)
    left join mirror.source_rows(v_run.integration_id, v_entity, v_listed.source_id) as r on r.source_id = l.source_id
    where not coalesce(
        r.source_version > v_read_at or r.deleted_at > v_read_at or r.deleted_at is null and r.source_hash = l.source_hash, false
    );

    if v_ids is null then
        return '[]';
    elsif v_run.kind = 'backfill' then
        return (
            select json_agg(json_build_object('source_id', d.source_id, 'state', d.state))
            from unnest(v_ids, v_states) as d (source_id, state)
        );
    end if;
    return (
        select json_agg(json_build_object('source_id', d.source_id, 'state', d.state, 'cause', c.cause, 'detail', c.detail))
        from unnest(v_ids, v_states) as d (source_id, state)
        left join mirror.find_causes(v_run.integration_id, v_entity, v_ids, v_hashes) as c on c.source_id = d.source_id
    );
end
$$;

comment on function mirror.compare_slice(uuid, json) is
'Which entities of a slice are not here as the engine lists them: [{"source_id", "state": "missing|stale", "cause", '
'"detail"}], the last two in a reconcile. A row that was read later than the slice is newer, and right. p_slice: {"entity", '
'"read_at", "listed": {"source_id": [..], "source_hash": [..]}}.';
revoke execute on function mirror.compare_slice(uuid, json) from public;
grant execute on function mirror.compare_slice(uuid, json) to service_role;

create function mirror.verify_slice(p_integration_id uuid, p_slice jsonb) returns table (
    source_id text,
    outcome text,
    reason text,
    told_hash text,
    present_hash text
)
language plpgsql stable
set search_path = ''
as $$
declare
    v_entity constant text := p_slice ->> 'entity';
    v_read_at constant timestamptz := p_slice ->> 'read_at';
    v_listed mirror.fingerprint_columns := jsonb_populate_record(null::mirror.fingerprint_columns, p_slice -> 'listed');
    v_told mirror.told_columns := jsonb_populate_record(null::mirror.told_columns, p_slice -> 'told');
begin
    return query
    with judged as (
        select
            coalesce(l.source_id, t.source_id) as source_id,
            coalesce(t.source_hash, l.source_hash) as told_hash,
            r.source_hash as present_hash,
            t.outcome as told_outcome,
            t.reason,
            case
                when t.outcome in ('rejected', 'skipped') then t.outcome
                -- A later reading stands here, be it a state or a deletion: it is as right as anything can be.
                when r.source_version > coalesce(t.source_version, v_read_at)
                or r.deleted_at > coalesce(t.source_version, v_read_at) then 'unchanged'
                when t.outcome = 'deleted' and r.deleted_at = t.source_version then 'tombstoned'
                when t.outcome = 'state' and r.deleted_at is null and r.source_version = t.source_version
                and r.source_hash is not distinct from t.source_hash then 'written'
                when t.outcome is null and r.deleted_at is null and r.source_hash = l.source_hash then 'unchanged'
                when r.source_id is null then 'missing'
                else 'stale'
            end as outcome,
            l.source_id is not null as is_listed
        from unnest(v_listed.source_id, v_listed.source_hash) as l (source_id, source_hash)
        full join unnest(v_told.source_id, v_told.outcome, v_told.source_version, v_told.source_hash, v_told.reason)
            as t (source_id, outcome, source_version, source_hash, reason) on t.source_id = l.source_id
        left join mirror.source_rows(
            p_integration_id, v_entity, array(select unnest(v_listed.source_id) union select unnest(v_told.source_id))
        ) as r on r.source_id = coalesce(l.source_id, t.source_id)
    )
    select
        j.source_id,
        case
            when j.outcome in ('missing', 'stale') or not j.is_listed and j.outcome <> 'tombstoned' then 'rejected'
            when j.outcome = 'tombstoned' and j.is_listed then 'vanished'
            else j.outcome
        end,
        case
            when j.reason is not null then j.reason
            when not j.is_listed and j.told_outcome = 'state' then 'the engine has it, and did not list it'
            when j.told_outcome = 'deleted' and j.outcome = 'stale' then 'the engine no longer has it'
            when j.outcome = 'missing' then 'it is missing here'
            when j.outcome = 'stale' then 'it is here in another state'
        end,
        case when j.outcome = 'tombstoned' then 'gone' when j.outcome = 'unchanged' then j.present_hash else j.told_hash end,
        case when j.outcome = 'tombstoned' then 'gone' when j.outcome = 'missing' then null else j.present_hash end
    from judged as j;
end
$$;

comment on function mirror.verify_slice(uuid, jsonb) is
'What stands here of each entity of a slice, against what the engine told: written, unchanged, skipped, vanished (listed, '
'and then gone), tombstoned, or rejected with the reason. p_slice as write_slice takes it.';
revoke execute on function mirror.verify_slice(uuid, jsonb) from public;
grant execute on function mirror.verify_slice(uuid, jsonb) to service_role;

create function mirror.move_cursor(p_run_id uuid, p_entity text) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_cursor mirror.sync_cursors;
    v_position text;
begin
    select * into strict v_cursor from mirror.sync_cursors as c where c.run_id = p_run_id and c.entity = p_entity for update;
    while not v_cursor.is_at_end loop
        select r.next_position into v_position
        from mirror.sync_receipts as r
        where
            r.run_id = p_run_id and r.entity = p_entity and r.slice = v_cursor.slice and r.is_complete and not r.is_superseded;
        exit when not found;
        v_cursor.slice := v_cursor.slice + 1;
        v_cursor.position := v_position;
        v_cursor.is_at_end := v_position is null;
    end loop;
    update mirror.sync_cursors as c
    set slice = v_cursor.slice, position = v_cursor.position, is_at_end = v_cursor.is_at_end
    where c.id = v_cursor.id and c.slice <> v_cursor.slice;
end
$$;

comment on function mirror.move_cursor(uuid, text) is
'Moves the cursor of a run past all slices whose receipts agree, up to the first that is missing or does not.';
revoke execute on function mirror.move_cursor(uuid, text) from public;
grant execute on function mirror.move_cursor(uuid, text) to service_role;

create function mirror.write_slice(p_run_id uuid, p_claim uuid, p_slice json, p_records json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_run mirror.sync_runs := mirror.require_run(p_run_id, p_claim);
    v_part constant jsonb := p_slice; -- parsed once
    v_entity constant text := v_part ->> 'entity';
    v_slice constant integer := v_part ->> 'slice';
    v_read_at constant timestamptz := v_part ->> 'read_at';
    v_listed constant text[] := array(select jsonb_array_elements_text(v_part #> '{listed,source_id}'));
    v_new integer;
    v_receipt mirror.sync_receipts;
begin
    if p_records is not null then
        perform mirror.apply_records(p_records);
    end if;
    insert into mirror.sync_seen (run_id, entity, source_id, slice)
    select p_run_id, v_entity, l.source_id, v_slice
    from unnest(v_listed) as l (source_id)
    order by l.source_id
    on conflict do nothing;
    get diagnostics v_new = row_count;
    if v_new < cardinality(v_listed) then -- some were met before, be it in this slice, written once more
        select count(*) into v_new
        from unnest(v_listed) as l (source_id)
        inner join mirror.sync_seen as s
            on s.run_id = p_run_id and s.entity = v_entity and s.source_id = l.source_id and s.slice = v_slice;
    end if;

    insert into mirror.sync_receipts as r (
        run_id, entity, slice, read_at, next_position, counted, listed, written, unchanged, skipped, vanished, tombstoned, rejected,
        source_hash, content_hash, written_ids, tombstoned_ids, found, differing
    )
    select
        p_run_id, v_entity, v_slice, v_read_at, v_part ->> 'next_position',
        -- What was found gone nobody counted: of that, only what is there after all is the engine's.
        coalesce((v_part ->> 'counted')::integer, count(*) filter (where v.outcome <> 'tombstoned')::integer),
        v_new,
        count(*) filter (where v.outcome = 'written'),
        count(*) filter (where v.outcome = 'unchanged'),
        count(*) filter (where v.outcome = 'skipped'),
        count(*) filter (where v.outcome = 'vanished'),
        count(*) filter (where v.outcome in ('vanished', 'tombstoned')),
        count(*) filter (where v.outcome = 'rejected'),
        mirror.digest(array_agg(v.source_id || ' ' || coalesce(v.told_hash, '') order by v.source_id)
            filter (where v.outcome <> 'skipped')),
        mirror.digest(array_agg(v.source_id || ' ' || coalesce(v.present_hash, '') order by v.source_id)
            filter (where v.outcome <> 'skipped')),
        coalesce(array_agg(v.source_id order by v.source_id) filter (where v.outcome = 'written'), '{}'),
        coalesce(array_agg(v.source_id order by v.source_id) filter (where v.outcome in ('vanished', 'tombstoned')), '{}'),
        coalesce(v_part -> 'found', '[]'),
        coalesce(
            jsonb_agg(jsonb_build_object('source_id', v.source_id, 'reason', v.reason) order by v.source_id)
            filter (where v.outcome = 'rejected'),
            '[]'
        )
    from mirror.verify_slice(v_run.integration_id, v_part) as v
    on conflict (run_id, entity, slice) where not is_superseded do update set
        read_at = excluded.read_at, next_position = excluded.next_position, counted = excluded.counted, listed = excluded.listed,
        written = excluded.written, unchanged = excluded.unchanged, skipped = excluded.skipped, vanished = excluded.vanished,
        tombstoned = excluded.tombstoned, rejected = excluded.rejected, source_hash = excluded.source_hash,
        content_hash = excluded.content_hash, written_ids = excluded.written_ids, tombstoned_ids = excluded.tombstoned_ids,
        found = excluded.found, differing = excluded.differing
    returning r.* into v_receipt;

    update mirror.sync_runs as r
    set read_from = v_read_at
    where r.id = p_run_id and coalesce(r.read_from > v_read_at, true);
    perform mirror.move_cursor(p_run_id, v_entity);
    return to_jsonb(v_receipt) - array['written_ids', 'tombstoned_ids', 'found', 'created_at', 'updated_at'];
end
$$;

comment on function mirror.write_slice(uuid, uuid, json, json) is
'Writes the records of a slice where they are newer than what is there, looks at what stands there then, and leaves a '
'receipt, which it returns; all or nothing. Once more with the same arguments it changes nothing. p_slice: {"entity", '
'"slice", "read_at", "next_position", "counted", "listed": mirror.fingerprint_columns, "told": mirror.told_columns with '
'outcome state, deleted, skipped or rejected, "found": of compare_slice}; p_records as apply_records takes it.';
revoke execute on function mirror.write_slice(uuid, uuid, json, json) from public;
grant execute on function mirror.write_slice(uuid, uuid, json, json) to service_role;
