-- Failures are looked after: retry schedules and retention as data, events that people list, retry and skip, the story of an
-- order, a poison event that costs its slice little, and an inbox that does not grow for ever.

-- How long what failed waits for its next attempt. A schedule is data: it is read at each failure, so an edit counts at once.

create type mirror.retried_work as enum ('event', 'command');
comment on type mirror.retried_work is
'event: of the inbox, waiting for the database. command: of the outbox, waiting for the engine.';

create table mirror.retry_schedule (
    id uuid primary key default mirror.uuid_v7(),
    work mirror.retried_work not null,
    attempt integer not null,
    wait interval,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (work, attempt)
);

comment on table mirror.retry_schedule is
'How long an event or a command that failed for now waits before it is tried again. A row holds for its attempt and for those '
'that follow, up to the next row.';
comment on column mirror.retry_schedule.attempt is 'How many attempts were made.';
comment on column mirror.retry_schedule.wait is
'Before the next attempt. Empty, for commands only: there is none, the command is dead.';

create trigger touch_updated_at before update on mirror.retry_schedule
for each row execute function mirror.touch_updated_at();

insert into mirror.retry_schedule (work, attempt, wait) values
('event', 1, '200 milliseconds'),
('event', 2, '1 second'),
('event', 3, '5 seconds'),
('event', 4, '30 seconds'),
('event', 5, '2 minutes'),
('event', 6, '10 minutes'),
('command', 1, '1 second'),
('command', 2, '5 seconds'),
('command', 3, '30 seconds'),
('command', 4, '2 minutes'),
('command', 5, '10 minutes'),
('command', 6, '1 hour'),
('command', 30, null);

-- How long the inbox keeps what it has settled. An event's payload goes first; its key stays longer, so that a hook that is
-- delivered again after months is still known.

create type mirror.kept as enum ('events', 'keys');
comment on type mirror.kept is
'events: applied and skipped events of the inbox, with their payloads. keys: the ids of events that were removed.';

create table mirror.retention (
    what mirror.kept primary key,
    keep interval not null,
    updated_at timestamptz not null default now()
);

comment on table mirror.retention is
'How long the inbox keeps what it has settled. Dead events stay until somebody retries or skips them.';

create trigger touch_updated_at before update on mirror.retention
for each row execute function mirror.touch_updated_at();

insert into mirror.retention (what, keep) values ('events', '30 days'), ('keys', '180 days');

create table mirror.seen_events (
    integration_id uuid not null references mirror.integrations (id),
    event_id text not null,
    seen_at timestamptz not null,
    primary key (integration_id, event_id)
);

comment on table mirror.seen_events is
'The ids of events that mirror.prune_events has removed: delivered again, they are duplicates.';
comment on column mirror.seen_events.seen_at is 'When the event arrived.';

create index seen_events_seen_at on mirror.seen_events (seen_at);

insert into mirror.schedule (job, command, every) values ('prune', 'select mirror.prune()', '1 minute');

create index audit_log_batched on mirror.audit_log ((new_values ->> 'order_summary_id'))
where table_name = 'order_batch_assignments' and action = 'insert';

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
            v_events.integration_id, v_events.event_id, v_events.event_type, v_events.entity_id, v_events.payload
        ) with ordinality as t (integration_id, event_id, event_type, entity_id, payload, position)
    ), inserted as (
        insert into mirror.webhook_events (integration_id, event_id, event_type, entity_id, payload)
        select integration_id, event_id, event_type, entity_id, payload
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

create function mirror.retry_wait(p_work mirror.retried_work, p_attempts integer) returns interval
language sql stable
set search_path = ''
as $$
    select s.wait
    from mirror.retry_schedule as s
    where s.work = p_work and s.attempt <= greatest(p_attempts, 1)
    order by s.attempt desc
    limit 1
$$;

comment on function mirror.retry_wait(mirror.retried_work, integer) is
'How long to wait before the next attempt, after so many; null: give up. From mirror.retry_schedule.';
revoke execute on function mirror.retry_wait(mirror.retried_work, integer) from public;
grant execute on function mirror.retry_wait(mirror.retried_work, integer) to service_role;

create function mirror.guard_retry_schedule() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_row mirror.retry_schedule;
    v_work mirror.retried_work;
begin
    select s.* into v_row
    from mirror.retry_schedule as s
    where s.attempt < 1 or s.wait < '0' or s.wait > '1 day' or (s.work = 'event' and s.wait is null)
    limit 1;
    if v_row.attempt < 1 then
        raise exception 'Attempts are counted from 1, not from %.', v_row.attempt
        using errcode = 'check_violation', hint = 'The row of attempt 1 says how long to wait after the first failure.';
    elsif v_row.wait is not null then
        raise exception 'A wait of % before the next attempt is not possible.', v_row.wait
        using errcode = 'check_violation', hint = 'Choose one between 0 seconds and 1 day.';
    elsif v_row.id is not null then
        raise exception 'Events are never given up: attempt % needs a wait.', v_row.attempt
        using errcode = 'check_violation', hint = 'Only commands may have an empty wait, which makes them dead.';
    end if;

    select w.work into v_work
    from unnest(enum_range(null::mirror.retried_work)) as w (work)
    where not exists (select from mirror.retry_schedule as s where s.work = w.work and s.attempt = 1 and s.wait is not null)
    limit 1;
    if found then
        raise exception 'The schedule for each % begins with attempt 1 and its wait.', v_work
        using errcode = 'check_violation', hint = 'Keep the row of attempt 1, and change its wait.';
    end if;

    select later.* into v_row
    from mirror.retry_schedule as later
    inner join mirror.retry_schedule as last on last.work = later.work and last.wait is null and last.attempt < later.attempt
    limit 1;
    if found then
        raise exception 'A command is dead before attempt %: the row of an earlier attempt has no wait.', v_row.attempt
        using errcode = 'check_violation', hint = 'Remove that row first, or give it a wait.';
    end if;
    return null;
end
$$;

comment on function mirror.guard_retry_schedule() is 'Trigger: the rules of a retry schedule, in words that an admin reads.';
revoke execute on function mirror.guard_retry_schedule() from public;

create or replace function mirror.settle_events(p_claim uuid, p_settlements json) returns integer
language plpgsql
set search_path = ''
-- One look-up each: a planner that does not know how the inbox has grown would read all of it, for each slice.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_settlements mirror.settlement_columns
        := json_populate_record(null::mirror.settlement_columns, p_settlements);
    v_settled integer;
begin
    update mirror.webhook_events as e
    set
        state = (case s.outcome when 'retry' then 'pending' else s.outcome end)::mirror.event_state,
        reason = s.reason,
        claimed_by = null,
        available_at = case
            when s.outcome = 'retry'
                then now() + coalesce(make_interval(secs => s.retry_after), mirror.retry_wait('event', e.attempts))
            else e.available_at
        end,
        settled_at = case when s.outcome <> 'retry' then now() end
    from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
        as s (id, outcome, reason, retry_after)
    where e.id = s.id and e.claimed_by = p_claim and e.settled_at is null; -- not `state`: its index leads to all that wait
    get diagnostics v_settled = row_count;

    if v_settled <> cardinality(v_settlements.id) then
        raise exception 'claim % holds only % of the % events that it settles', p_claim, v_settled,
            cardinality(v_settlements.id)
        using
            errcode = 'lock_not_available',
            hint = 'The lease lapsed and another worker took them over: roll back, and leave them to it.';
    end if;
    return v_settled;
end
$$;

comment on function mirror.settle_events(uuid, json) is
'Ends the lease of events: outcome applied, skipped or dead (the last two with a reason), or retry after so many seconds, or, '
'where none are given, as mirror.retry_schedule says. Fails, so that the caller''s transaction rolls back, if the claim no '
'longer holds every one of them.';

create function mirror.run_again() returns void
language sql
set search_path = ''
as $$
    select set_config('mirror.job_runs_again', 'yes', true)
$$;

comment on function mirror.run_again() is
'For a job of mirror.schedule that has more to do: it is due again as soon as this run is committed.';
revoke execute on function mirror.run_again() from public;
grant execute on function mirror.run_again() to service_role;

create or replace function mirror.run_schedule() returns table (job text, error text)
language plpgsql
set search_path = ''
as $$
declare
    v_job mirror.schedule;
    v_error text;
begin
    -- A job that another instance has in hand is locked: it is done there. One that was done meanwhile is no longer due.
    for v_job in
        select * from mirror.schedule as s
        where s.last_run_at is null or s.last_run_at + s.every <= now()
        order by s.job
        for update skip locked
    loop
        v_error := null;
        perform set_config('mirror.job_runs_again', '', true);
        begin
            execute v_job.command;
        exception when others then
            v_error := sqlerrm;
        end;
        update mirror.schedule as s
        set
            last_run_at = case when current_setting('mirror.job_runs_again') = 'yes' then s.last_run_at else now() end,
            last_error = v_error
        where s.id = v_job.id;
        return query select v_job.job, v_error;
    end loop;
end
$$;

-- A slice that the database refuses is taken apart here: each piece is a transaction of its own within the caller's, a savepoint.
-- So one call tells which of many pieces are refused, and applies all the others.

create function mirror.apply_apart(p_claim uuid, p_pieces json, p_passing text[]) returns table (
    piece integer,
    customers integer,
    orders integer,
    state text,
    message text,
    violated text
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    v_piece json;
    v_counts json;
    v_ends_at constant timestamptz := clock_timestamp() + interval '20 seconds';
begin
    -- A piece that waits for somebody's row is refused, too, so that the others need not wait with it.
    perform set_config('lock_timeout', '2s', true);
    for piece, v_piece in
        select p.position - 1, p.value from json_array_elements(p_pieces) with ordinality as p (value, position)
    loop
        customers := null;
        orders := null;
        state := null;
        message := null;
        violated := null;
        begin
            if clock_timestamp() > v_ends_at then
                raise exception 'not tried: the events before it took too long' using errcode = 'lock_not_available';
            end if;
            v_counts := mirror.apply_events(p_claim, v_piece -> 'records', v_piece -> 'settlements');
            set constraints all immediate; -- what is left for the end of the transaction would undo every piece
            set constraints all deferred;
            customers := v_counts -> 'customers';
            orders := v_counts -> 'orders';
        exception when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, violated = constraint_name;
            if json_array_length(v_piece #> '{settlements,id}') = 1
            and not (left(state, 2) = any(p_passing) or violated = any(p_passing)) then
                perform mirror.settle_events(
                    p_claim,
                    json_build_object(
                        'id', v_piece #> '{settlements,id}',
                        'outcome', json_build_array('dead'),
                        'reason', json_build_array(format('%s (SQLSTATE %s)', message, state)),
                        'retry_after', json_build_array(null)
                    )
                );
            end if;
        end;
        return next;
    end loop;
end
$$;

comment on function mirror.apply_apart(uuid, json, text[]) is
'Applies pieces of a slice that was refused as a whole, each by itself; returns a row for each, with how many customers and '
'orders changed, or why it was refused. p_pieces: a list of {"records", "settlements"} as apply_events takes them. A single '
'event that is refused is settled as dead, unless the class of its SQLSTATE or the constraint that it violates is among '
'p_passing: that passes by itself.';
revoke execute on function mirror.apply_apart(uuid, json, text[]) from public;
grant execute on function mirror.apply_apart(uuid, json, text[]) to service_role;

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
    reason text
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
        case when p_events is not null then 'e.event_id = any($6)' end
    );
begin
    return query execute
        'select e.id, i.slug, e.event_id, e.event_type, e.entity_id, e.state, '
        'e.claimed_by is not null and e.available_at > now(), e.attempts, e.created_at, e.available_at, e.settled_at, e.reason '
        'from mirror.integrations as i cross join mirror.webhook_events as e '
        'where ' || v_conditions || ' order by e.id desc limit $7'
    using p_type, p_entity, p_integration, p_since, p_reason, p_events, p_limit;
end
$$;

comment on function mirror.list_events(
    mirror.event_state, text, text, text, timestamptz, text, text[], integer
) is
'Events of the inbox, the newest first: of a state, a type, an entity (the engine''s id), an integration (its slug), arrived '
'since then, with these words in their reason, with these ids. No payloads: mirror.show_event has them.';
revoke execute on function mirror.list_events(
    mirror.event_state, text, text, text, timestamptz, text, text[], integer
) from public;
grant execute on function mirror.list_events(
    mirror.event_state, text, text, text, timestamptz, text, text[], integer
) to service_role;

create function mirror.count_events(
    p_state mirror.event_state default null,
    p_type text default null,
    p_entity text default null,
    p_integration text default null,
    p_since timestamptz default null,
    p_reason text default null,
    p_events text[] default null
) returns bigint
language sql stable
set search_path = ''
as $$
    select count(*)
    from mirror.list_events(p_state, p_type, p_entity, p_integration, p_since, p_reason, p_events, null)
$$;

comment on function mirror.count_events(mirror.event_state, text, text, text, timestamptz, text, text[]) is
'How many events mirror.list_events has for the same choice.';
revoke execute on function mirror.count_events(mirror.event_state, text, text, text, timestamptz, text, text[]) from public;
grant execute on function mirror.count_events(mirror.event_state, text, text, text, timestamptz, text, text[]) to service_role;

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
    p_events text[] default null
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
    from mirror.list_events(v_state, p_type, p_entity, p_integration, p_since, p_reason, p_events, null) as e;
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

comment on function mirror.retry_events(mirror.event_state, text, text, text, timestamptz, text, text[]) is
'Has events applied again, with a fresh count of attempts: those with these ids, or all of the choice (without a state: the dead '
'ones), as mirror.list_events has them. Returns how many, the ids of those that a daemon has in hand and that were left alone, '
'and the ids that no event has. An older state never replaces a newer one, so that there is nothing to lose.';
revoke execute on function mirror.retry_events(mirror.event_state, text, text, text, timestamptz, text, text[]) from public;
grant execute on function mirror.retry_events(mirror.event_state, text, text, text, timestamptz, text, text[]) to service_role;

create function mirror.skip_events(
    p_why text,
    p_state mirror.event_state default null,
    p_type text default null,
    p_entity text default null,
    p_integration text default null,
    p_since timestamptz default null,
    p_reason text default null,
    p_events text[] default null
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
    from mirror.list_events(v_state, p_type, p_entity, p_integration, p_since, p_reason, p_events, null) as e;
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

comment on function mirror.skip_events(text, mirror.event_state, text, text, text, timestamptz, text, text[]) is
'Leaves pending or dead events out, for the reason p_why: those with these ids, or all of the choice (without a state: the dead '
'ones), as mirror.list_events has them. Returns how many, the ids of those that a daemon has in hand, of those that are applied '
'or skipped already, and the ids that no event has.';
revoke execute on function mirror.skip_events(text, mirror.event_state, text, text, text, timestamptz, text, text[]) from public;
grant execute on function mirror.skip_events(text, mirror.event_state, text, text, text, timestamptz, text, text[])
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

create function mirror.guard_retention() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_events constant interval := (select r.keep from mirror.retention as r where r.what = 'events');
    v_keys constant interval := (select r.keep from mirror.retention as r where r.what = 'keys');
begin
    if v_events is null or v_keys is null then
        raise exception 'Both events and keys are kept for a time: neither row can go.'
        using errcode = 'restrict_violation', hint = 'To keep something for ever, choose a long time, such as 100 years.';
    elsif v_events < '1 day' then
        raise exception 'Events are kept for a day at least, not for %.', v_events
        using errcode = 'check_violation', hint = 'They answer what became of an order, and a rebuild starts from them.';
    elsif v_keys < v_events then
        raise exception 'Keys are kept at least as long as events: % is less than %.', v_keys, v_events
        using errcode = 'check_violation', hint = 'A hook that comes again is known by its key.';
    end if;
    return null;
end
$$;

comment on function mirror.guard_retention() is 'Trigger: the rules of retention, in words that an admin reads.';
revoke execute on function mirror.guard_retention() from public;

create function mirror.least_uuid_v7(p_at timestamptz) returns uuid
language sql immutable
set search_path = ''
as $$
    select (
        lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '70008000000000000000'
    )::uuid
$$;

comment on function mirror.least_uuid_v7(timestamptz) is
'The least UUIDv7 of that moment: what has a smaller id was made before. It finds old rows by their primary key.';
revoke execute on function mirror.least_uuid_v7(timestamptz) from public;
grant execute on function mirror.least_uuid_v7(timestamptz) to service_role;

create function mirror.prune_events(
    p_events_before timestamptz,
    p_keys_before timestamptz,
    p_limit integer default 5000
) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_events integer;
    v_keys integer;
begin
    -- By the primary key, whose ids are in the order of arrival: no index more, which every event would have to pay for.
    with old as materialized (
        select e.id
        from mirror.webhook_events as e
        where
            e.id < mirror.least_uuid_v7(p_events_before)
            and e.state in ('applied', 'skipped') and e.settled_at < p_events_before
        order by e.id
        limit p_limit
        for update skip locked
    ), gone as (
        delete from mirror.webhook_events as e
        using old
        where e.id = old.id
        returning e.integration_id, e.event_id, e.created_at
    ), seen as (
        insert into mirror.seen_events (integration_id, event_id, seen_at)
        select g.integration_id, g.event_id, g.created_at
        from gone as g
        where g.created_at >= p_keys_before
        on conflict (integration_id, event_id) do nothing
    )
    select count(*) into v_events from gone;

    with old as materialized (
        select s.integration_id, s.event_id
        from mirror.seen_events as s
        where s.seen_at < p_keys_before
        order by s.seen_at
        limit p_limit
        for update skip locked
    )
    delete from mirror.seen_events as s
    using old
    where s.integration_id = old.integration_id and s.event_id = old.event_id;
    get diagnostics v_keys = row_count;
    return greatest(v_events, v_keys);
end
$$;

comment on function mirror.prune_events(timestamptz, timestamptz, integer) is
'Removes up to p_limit events that arrived and were applied or skipped before p_events_before, keeping their ids in '
'mirror.seen_events, and up to p_limit of such ids from before p_keys_before. Returns how many, of what it removed most: with '
'p_limit, there may be more.';
revoke execute on function mirror.prune_events(timestamptz, timestamptz, integer) from public;
grant execute on function mirror.prune_events(timestamptz, timestamptz, integer) to service_role;

create function mirror.prune() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_batch constant integer := 5000;
    v_pruned constant integer := mirror.prune_events(
        now() - (select r.keep from mirror.retention as r where r.what = 'events'),
        now() - (select r.keep from mirror.retention as r where r.what = 'keys'),
        v_batch
    );
begin
    if v_pruned = v_batch then
        perform mirror.run_again();
    end if;
    return v_pruned;
end
$$;

comment on function mirror.prune() is
'Removes a batch of what mirror.retention no longer keeps; returns how many. Runs by itself every minute, and again at once '
'while there is more.';
revoke execute on function mirror.prune() from public;
grant execute on function mirror.prune() to service_role;

-- The story of an order. Nothing is written for it: what became of an event that was ignored is worked out from the moments at
-- which it and the others were read by the engine, and settled here.

create function mirror.told_events(p_integration_id uuid, p_entity text, p_source_id text) returns table (
    id uuid,
    event_id text,
    event_type text,
    read_at timestamptz,
    arrived_at timestamptz,
    settled_at timestamptz,
    outcome text
)
language sql stable
set search_path = ''
as $$
    with told as materialized (
        select
            e.id, e.event_id, e.event_type, e.event_type like '%.deleted' as is_deletion,
            (e.payload ->> 'readAt')::timestamptz as read_at, e.created_at, e.settled_at, e.state, e.reason, e.attempts,
            e.available_at, e.claimed_by is not null and e.available_at > now() as is_leased
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
        end
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
        || coalesce(', read at ' || to_char(t.read_at, 'YYYY-MM-DD HH24:MI:SS.MS'), ''),
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

create trigger audit after update on mirror.webhook_events
for each row
when (old.state <> 'pending')
execute function mirror.audit_event();

create trigger guard after insert or update or delete on mirror.retry_schedule
for each statement execute function mirror.guard_retry_schedule();
create trigger guard_truncate after truncate on mirror.retry_schedule
for each statement execute function mirror.guard_retry_schedule();

create trigger guard after insert or update or delete on mirror.retention
for each statement execute function mirror.guard_retention();
create trigger guard_truncate after truncate on mirror.retention
for each statement execute function mirror.guard_retention();

alter table mirror.retry_schedule enable row level security;
alter table mirror.retry_schedule force row level security;
alter table mirror.retention enable row level security;
alter table mirror.retention force row level security;
alter table mirror.seen_events enable row level security;
alter table mirror.seen_events force row level security;

grant select, insert, update, delete on mirror.retry_schedule, mirror.retention, mirror.seen_events to service_role;
