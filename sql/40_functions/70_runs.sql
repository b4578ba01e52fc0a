-- A run is begun, kept, and finished or left. Of an integration only one is in hand at a time: its claim is renewed by the
-- process that has it, and lapses when that process dies.

create function mirror.read_cursor(p_run_id uuid, p_entity text) returns json
language sql stable
set search_path = ''
as $$
    select json_build_object(
        'entity', c.entity, 'slice', c.slice, 'position', c.position, 'is_at_end', c.is_at_end,
        'done', coalesce(sum(r.counted) filter (where r.slice < c.slice), 0),
        'slices', coalesce(max(r.slice) + 1, 0)
    )
    from mirror.sync_cursors as c
    left join mirror.sync_receipts as r on r.run_id = c.run_id and r.entity = c.entity and not r.is_superseded
    where c.run_id = p_run_id and c.entity = p_entity
    group by c.id
$$;

comment on function mirror.read_cursor(uuid, text) is
'How far a run has come: the first slice that is not complete, where it begins, how many entities are before it, how many '
'slices were read.';
revoke execute on function mirror.read_cursor(uuid, text) from public;
grant execute on function mirror.read_cursor(uuid, text) to service_role;

create function mirror.begin_run(
    p_integration_id uuid,
    p_kind text,
    p_options json,
    p_claim uuid,
    p_lease_seconds double precision,
    p_restart boolean default false
) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_options jsonb := p_options;
    v_present mirror.sync_runs;
    v_run_id uuid;
begin
    perform from mirror.integrations as i where i.id = p_integration_id for no key update;
    select * into v_present from mirror.sync_runs as r where r.integration_id = p_integration_id and r.state = 'running';
    if v_present.claimed_until > now() then
        return json_build_object('busy', v_present.kind, 'seconds', extract(epoch from v_present.claimed_until - now())::float8);
    end if;
    update mirror.sync_runs as r
    set state = 'incomplete', reason = 'the process that had it in hand died', finished_at = now(), claimed_by = null
    where r.id = v_present.id;

    -- The backfill that was not finished goes on where it was; but not after so long that its receipts, of slices that nobody
    -- would read again, prove nothing of today. Begun anew, it fetches only what differs.
    select r.id into v_run_id
    from (
        select l.id, l.state, l.options, l.created_at
        from mirror.sync_runs as l
        where l.integration_id = p_integration_id and l.kind = 'backfill'
        order by l.id desc
        limit 1
    ) as r
    where p_kind = 'backfill' and not p_restart and r.state = 'incomplete' and r.options = v_options
        and r.created_at > now() - interval '1 day';
    if v_run_id is not null then
        update mirror.sync_runs as r
        set
            state = 'running', reason = null, finished_at = null, claimed_by = p_claim,
            claimed_until = now() + make_interval(secs => p_lease_seconds)
        where r.id = v_run_id;
    else
        insert into mirror.sync_runs (integration_id, kind, options, claimed_by, claimed_until)
        values (p_integration_id, p_kind, v_options, p_claim, now() + make_interval(secs => p_lease_seconds))
        returning id into v_run_id;
        insert into mirror.sync_cursors (run_id, entity)
        select v_run_id, jsonb_array_elements_text(v_options -> 'entities');
    end if;
    return json_build_object(
        'run_id', v_run_id,
        'cursors', (
            select json_agg(mirror.read_cursor(c.run_id, c.entity))
            from mirror.sync_cursors as c
            where c.run_id = v_run_id
        )
    );
end
$$;

comment on function mirror.begin_run(uuid, text, json, uuid, double precision, boolean) is
'Begins a run, or goes on with the backfill of the same options that was begun within a day and not finished: {"run_id", '
'"cursors"}. While another run of the integration is in hand, it only says so: {"busy": its kind, "seconds": until its claim '
'lapses}.';
revoke execute on function mirror.begin_run(uuid, text, json, uuid, double precision, boolean) from public;
grant execute on function mirror.begin_run(uuid, text, json, uuid, double precision, boolean) to service_role;

create function mirror.forget_seen() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    delete from mirror.sync_seen as s where s.run_id = old.id;
    return null;
end
$$;

comment on function mirror.forget_seen() is
'Trigger: what a run has met goes with the run. A foreign key would look the run up for each customer and order.';
revoke execute on function mirror.forget_seen() from public;

create function mirror.require_run(p_run_id uuid, p_claim uuid) returns mirror.sync_runs
language plpgsql stable
set search_path = ''
as $$
declare
    v_run mirror.sync_runs;
begin
    select * into v_run from mirror.sync_runs as r where r.id = p_run_id and r.claimed_by = p_claim;
    if not found then
        raise exception 'another process has taken the run over'
        using errcode = 'no_data_found', hint = 'Leave it to that one.';
    end if;
    return v_run;
end
$$;

comment on function mirror.require_run(uuid, uuid) is 'The run, if this claim has it in hand; fails otherwise.';
revoke execute on function mirror.require_run(uuid, uuid) from public;
grant execute on function mirror.require_run(uuid, uuid) to service_role;

create function mirror.keep_run(p_run_id uuid, p_claim uuid, p_lease_seconds double precision) returns boolean
language plpgsql
set search_path = ''
as $$
begin
    update mirror.sync_runs as r
    set claimed_until = now() + make_interval(secs => p_lease_seconds)
    where r.id = p_run_id and r.claimed_by = p_claim;
    return found;
end
$$;

comment on function mirror.keep_run(uuid, uuid, double precision) is
'Keeps a run in hand for so long from now; returns whether this claim still has it.';
revoke execute on function mirror.keep_run(uuid, uuid, double precision) from public;
grant execute on function mirror.keep_run(uuid, uuid, double precision) to service_role;

create function mirror.rewind_run(p_run_id uuid, p_claim uuid, p_entity text, p_slice integer) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.require_run(p_run_id, p_claim);
    update mirror.sync_receipts as r
    set is_superseded = true
    where r.run_id = p_run_id and r.entity = p_entity and r.slice >= p_slice and not r.is_superseded;
    delete from mirror.sync_seen as s
    where s.run_id = p_run_id and s.entity = p_entity and s.slice >= p_slice;
    update mirror.sync_cursors as c
    set slice = 0, position = null, is_at_end = false
    where c.run_id = p_run_id and c.entity = p_entity and p_slice = 0;
end
$$;

comment on function mirror.rewind_run(uuid, uuid, text, integer) is
'Lets the slices from this one on be read again in the same run. What was written stays written.';
revoke execute on function mirror.rewind_run(uuid, uuid, text, integer) from public;
grant execute on function mirror.rewind_run(uuid, uuid, text, integer) to service_role;

create function mirror.sum_up(p_run_id uuid, p_claim uuid, p_entity text, p_counted bigint) returns json
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
revoke execute on function mirror.sum_up(uuid, uuid, text, bigint) from public;
grant execute on function mirror.sum_up(uuid, uuid, text, bigint) to service_role;

create function mirror.finish_run(p_run_id uuid, p_claim uuid, p_refused text default null) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_run mirror.sync_runs := mirror.require_run(p_run_id, p_claim);
    v_is_dry constant boolean := coalesce(v_run.options ->> 'fix' = 'false', false);
    v_faults text;
    v_drift text;
    v_is_complete boolean;
begin
    select
        string_agg(f.fault, '; ' order by d.entity),
        string_agg(format('%s missing, %s stale and %s gone %ss', d.missing, d.stale, d.gone, d.entity), '; ' order by d.entity)
            filter (where d.missing + d.stale + d.gone > 0),
        bool_and(d.is_complete)
    into v_faults, v_drift, v_is_complete
    from mirror.drift as d
    cross join lateral (
        select case
            when d.counted <> d.seen - d.removed
                then format('the engine counts %s %ss and lists %s', d.counted, d.entity, d.seen - d.removed)
            when exists (
                select from mirror.sync_receipts as r
                where
                    r.run_id = p_run_id and r.entity = d.entity and not r.is_superseded
                    and r.counted <> r.written + r.unchanged + r.skipped + r.vanished + r.rejected
            ) then format('the engine counts more or fewer %ss in a slice than it lists', d.entity)
            when not d.is_complete and not v_is_dry then format('%s %ss differ', d.differing, d.entity)
        end as fault
    ) as f
    where d.run_id = p_run_id;

    update mirror.sync_runs as r
    set
        state = case
            when p_refused is not null then 'refused'
            when v_faults is not null then 'incomplete'
            when v_is_dry and v_drift is not null then 'drifted'
            when v_is_dry or v_is_complete then 'complete'
            else 'incomplete'
        end::mirror.run_state,
        reason = coalesce(p_refused, v_faults, case when v_is_dry then v_drift when not v_is_complete then 'it was not read' end),
        finished_at = now(),
        claimed_by = null
    where r.id = p_run_id
    returning r.* into v_run;
    if v_run.state <> 'incomplete' then
        delete from mirror.sync_seen as s where s.run_id = p_run_id;
    end if;
    return json_build_object('state', v_run.state, 'reason', v_run.reason);
end
$$;

comment on function mirror.finish_run(uuid, uuid, text) is
'Ends a run that was read to its end, and says what it is: complete only if all receipts agree and the engine counts in all '
'as many as it listed. p_refused: why it was not obeyed.';
revoke execute on function mirror.finish_run(uuid, uuid, text) from public;
grant execute on function mirror.finish_run(uuid, uuid, text) to service_role;

create function mirror.leave_run(p_run_id uuid, p_claim uuid, p_reason text) returns void
language plpgsql
set search_path = ''
as $$
begin
    update mirror.sync_runs as r
    set state = 'incomplete', reason = p_reason, finished_at = now(), claimed_by = null
    where r.id = p_run_id and r.claimed_by = p_claim;
end
$$;

comment on function mirror.leave_run(uuid, uuid, text) is
'Ends a run that could not go on. A backfill goes on there the next time.';
revoke execute on function mirror.leave_run(uuid, uuid, text) from public;
grant execute on function mirror.leave_run(uuid, uuid, text) to service_role;

create function mirror.prune_runs() returns bigint
language plpgsql
set search_path = ''
as $$
declare
    v_pruned bigint;
begin
    -- The last of each kind stays, for status and for going on, and the last complete one, which says that the engine was brought
    -- over. A few at a time: the rest is due the next time.
    with old as (
        select r.id
        from mirror.sync_runs as r
        where
            r.finished_at < now() - interval '30 days'
            and exists (
                select from mirror.sync_runs as l
                where
                    l.integration_id = r.integration_id and l.kind = r.kind and l.id > r.id
                    and (r.state <> 'complete' or l.state = 'complete')
            )
        order by r.id
        limit 200
    )
    delete from mirror.sync_runs as r using old where r.id = old.id;
    get diagnostics v_pruned = row_count;
    delete from mirror.drift as d where d.created_at < now() - interval '400 days';
    delete from mirror.hand_edits as h where h.created_at < now() - interval '400 days';
    delete from mirror.hook_gaps as g where g.day < current_date - 400;
    return v_pruned;
end
$$;

comment on function mirror.prune_runs() is
'Forgets runs and their receipts after 30 days, drift, hand edits and gaps between hooks after 400; returns how many runs. '
'Runs by itself every hour.';
revoke execute on function mirror.prune_runs() from public;
grant execute on function mirror.prune_runs() to service_role;

create function mirror.read_differing(p_run_id uuid, p_entity text, p_limit integer default 500) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(d.entry), '[]')
    from (
        select e.entry
        from mirror.sync_receipts as r
        cross join lateral jsonb_array_elements(r.differing) as e (entry)
        where r.run_id = p_run_id and r.entity = p_entity and not r.is_superseded
        order by r.slice
        limit p_limit
    ) as d
$$;

comment on function mirror.read_differing(uuid, text, integer) is
'What still differs after a run, and why: the first p_limit of it.';
revoke execute on function mirror.read_differing(uuid, text, integer) from public;
grant execute on function mirror.read_differing(uuid, text, integer) to service_role;
