-- What people do with events: look for them, read one, have them applied again, or leave them out. Every parameter narrows the
-- choice; what is not given does not.

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

-- What a settled event was before somebody touched it again: who did so, and why it had been refused.

create function mirror.audit_event() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    insert into mirror.audit_log (
        store_id, actor, database_role, action, table_name, row_id, old_values, new_values
    )
    select
        i.store_id, mirror.current_actor(), mirror.acting_role(), 'update', tg_table_name, new.id,
        jsonb_build_object('state', old.state, 'reason', old.reason, 'attempts', old.attempts, 'settled_at', old.settled_at),
        jsonb_build_object('state', new.state, 'reason', new.reason)
    from mirror.integrations as i
    where i.id = new.integration_id;
    return null;
end
$$;

comment on function mirror.audit_event() is
'Trigger: notes in mirror.audit_log who had a settled event applied again or skipped, and what had become of it before.';
revoke execute on function mirror.audit_event() from public;

-- What people do with one event in Studio: its state's cell.

create function mirror.guard_event() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_skipped constant text := format('skipped by %s', mirror.current_actor());
begin
    if tg_op = 'DELETE' then
        raise exception 'Event % is % and cannot be deleted.', old.event_id, old.state
        using
            errcode = 'restrict_violation',
            hint = 'If it is not to be applied, set its state to skipped: it is removed in time.';
    elsif old.claimed_by is not null and old.available_at > now() then
        raise exception 'Event % is being applied.', old.event_id
        using errcode = 'object_in_use', hint = 'Look again in a minute.';
    elsif new.state = 'pending' then
        new.available_at := now();
        new.claimed_by := null;
        new.attempts := 0;
        new.reason := null;
        new.settled_at := null;
        perform pg_notify('mirror_inbox', '');
    elsif new.state = 'skipped' and old.state in ('pending', 'dead') then
        new.claimed_by := null;
        new.reason := coalesce(new.reason || ' (' || v_skipped || ')', v_skipped);
        new.settled_at := now();
    else
        raise exception 'Event % is % and cannot become %.', old.event_id, old.state, new.state
        using errcode = 'check_violation', hint = 'pending has it applied again; skipped leaves out what is not applied yet.';
    end if;
    return new;
end
$$;

comment on function mirror.guard_event() is
'Trigger: what an admin may say of an event. pending and skipped do what mirror.retry_events and mirror.skip_events do.';
revoke execute on function mirror.guard_event() from public;
