-- Completeness: backfill and reconcile leave receipts, drift is kept, silence raises an alarm, and what is changed by hand is noticed.
-- The tables of cursors and receipts came with the second migration; nothing has written them so far, so they are made anew.

alter table mirror.integrations
add column max_gone_share numeric not null default 0.05 check (max_gone_share between 0 and 1),
add column reconcile_every interval default '1 hour' check (reconcile_every >= '1 minute'),
add column reconcile_window interval not null default '3 days' check (reconcile_window > '0'),
add column full_reconcile_every interval default '1 day' check (full_reconcile_every >= '1 minute'),
add column silence_factor numeric not null default 2 check (silence_factor >= 1),
add column silence_at_least interval not null default '1 hour' check (silence_at_least > '0');

comment on column mirror.integrations.max_gone_share is
'Of all customers or orders that a reconcile compares, the share that may be gone from the engine at once. More is refused and '
'reported; up to ten are always believed.';
comment on column mirror.integrations.reconcile_every is
'How often the daemon compares what was touched within reconcile_window with the engine; empty: never.';
comment on column mirror.integrations.full_reconcile_every is 'How often it compares everything; empty: never.';
comment on column mirror.integrations.silence_factor is
'No hook for so many times the usual longest wait, and for at least silence_at_least, raises an alarm.';

create index webhook_events_entity_id on mirror.webhook_events (integration_id, entity_id);

drop table mirror.sync_receipts;
drop table mirror.sync_cursors;

-- Completeness is proved slice by slice. A run reads an engine from end to end, a slice at a time; each slice leaves a receipt;
-- the cursor moves past slices whose receipts agree, and no further. What a run found is added up in mirror.drift.

create type mirror.run_state as enum ('running', 'complete', 'drifted', 'incomplete', 'refused');
comment on type mirror.run_state is
'running: in hand, or left by a process that died. complete: all receipts agree. drifted: something differs, and nothing was '
'to be changed. incomplete: something could not be read or written; reason says what. refused: too much was gone; reason '
'says how much.';

create table mirror.sync_runs (
    id uuid primary key default mirror.uuid_v7(),
    integration_id uuid not null references mirror.integrations (id),
    kind text not null check (kind in ('backfill', 'reconcile')),
    options jsonb not null,
    state mirror.run_state not null default 'running',
    reason text,
    read_from timestamptz,
    claimed_by uuid,
    claimed_until timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sync_runs_running_is_not_finished check ((state = 'running') = (finished_at is null)),
    constraint sync_runs_running_is_claimed check (state = 'running' or claimed_by is null),
    constraint sync_runs_failure_has_reason check (state in ('running', 'complete') or reason is not null)
) with (fillfactor = 70);

comment on table mirror.sync_runs is 'Each time that an engine was read from end to end, and what came of it.';
comment on column mirror.sync_runs.options is
'{"entities": ["customer", "order"], "since", "is_full", "fix", "allow_gone"}: what was asked for.';
comment on column mirror.sync_runs.reason is 'Why it is not complete.';
comment on column mirror.sync_runs.read_from is 'By the engine''s clock, before the first slice was read.';
comment on column mirror.sync_runs.claimed_by is
'Token of the process that has it in hand, until claimed_until; renewed while it lives.';

create unique index sync_runs_one_running on mirror.sync_runs (integration_id) where state = 'running';
create index sync_runs_integration_id on mirror.sync_runs (integration_id, kind, id);

create trigger touch_updated_at before update on mirror.sync_runs
for each row execute function mirror.touch_updated_at();

create table mirror.sync_cursors (
    id uuid primary key default mirror.uuid_v7(),
    run_id uuid not null references mirror.sync_runs (id) on delete cascade,
    entity text not null check (entity in ('customer', 'order')),
    slice integer not null default 0 check (slice >= 0),
    position text,
    is_at_end boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (run_id, entity)
) with (fillfactor = 70);

comment on table mirror.sync_cursors is 'How far a run has come: everything before the position is complete.';
comment on column mirror.sync_cursors.slice is 'The first slice that is not complete.';
comment on column mirror.sync_cursors.position is
'Where that slice begins, in the engine''s own terms; empty: at the beginning. It moves only past slices whose receipts agree.';

create trigger touch_updated_at before update on mirror.sync_cursors
for each row execute function mirror.touch_updated_at();

create table mirror.sync_receipts (
    id uuid primary key default mirror.uuid_v7(),
    run_id uuid not null references mirror.sync_runs (id) on delete cascade,
    entity text not null check (entity in ('customer', 'order')),
    slice integer not null check (slice >= 0),
    read_at timestamptz not null,
    next_position text,
    counted integer not null check (counted >= 0),
    listed integer not null check (listed >= 0),
    written integer not null check (written >= 0),
    unchanged integer not null check (unchanged >= 0),
    skipped integer not null check (skipped >= 0),
    vanished integer not null check (vanished >= 0),
    tombstoned integer not null check (tombstoned >= 0),
    rejected integer not null check (rejected >= 0),
    source_hash text not null,
    content_hash text not null,
    written_ids text[] not null default '{}',
    tombstoned_ids text[] not null default '{}',
    found jsonb not null default '[]',
    differing jsonb not null default '[]',
    is_superseded boolean not null default false,
    is_complete boolean not null generated always as (
        counted = written + unchanged + skipped + vanished and rejected = 0 and content_hash = source_hash
    ) stored,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.sync_receipts is 'What the engine had in each slice of a run, and what became of it here.';
comment on column mirror.sync_receipts.read_at is 'By the engine''s clock, before the slice was read.';
comment on column mirror.sync_receipts.counted is 'How many the engine counts in the slice, asked by itself.';
comment on column mirror.sync_receipts.listed is 'How many it listed that the run had not met before.';
comment on column mirror.sync_receipts.written is 'Stand here now as this slice brought them.';
comment on column mirror.sync_receipts.unchanged is 'Stood here already so, or newer.';
comment on column mirror.sync_receipts.skipped is 'Are not for us, by the document.';
comment on column mirror.sync_receipts.vanished is 'Were listed, and gone when they were read a moment later.';
comment on column mirror.sync_receipts.tombstoned is 'Are marked deleted here now, because this slice found them gone.';
comment on column mirror.sync_receipts.rejected is
'Are not here as the engine has them: differing says which, and why.';
comment on column mirror.sync_receipts.source_hash is 'Digest of ids and contents as the engine told them.';
comment on column mirror.sync_receipts.content_hash is 'The same of what is here, read after the writing.';
comment on column mirror.sync_receipts.found is
'What a reconcile found to differ, before it wrote: [{"source_id", "state": "missing|stale|gone", "cause", "detail"}].';
comment on column mirror.sync_receipts.differing is 'What still differs: [{"source_id", "reason"}].';
comment on column mirror.sync_receipts.is_superseded is 'The slice was read again in the same run.';
comment on column mirror.sync_receipts.is_complete is 'All that the engine counted is here.';

create unique index sync_receipts_slice on mirror.sync_receipts (run_id, entity, slice) where not is_superseded;
create index sync_receipts_run_id on mirror.sync_receipts (run_id, entity);

create trigger touch_updated_at before update on mirror.sync_receipts
for each row execute function mirror.touch_updated_at();

create unlogged table mirror.sync_seen (
    run_id uuid not null references mirror.sync_runs (id) on delete cascade,
    entity text not null,
    source_id text not null,
    slice integer not null,
    primary key (run_id, entity, source_id)
);

comment on table mirror.sync_seen is
'What a run has met so far, so that it can tell what is gone. Unlogged: if a crash of the server empties it, the run knows, '
'for its receipts say how much there should be.';

create table mirror.drift (
    id uuid primary key default mirror.uuid_v7(),
    run_id uuid references mirror.sync_runs (id) on delete set null,
    integration_id uuid not null references mirror.integrations (id),
    entity text not null check (entity in ('customer', 'order')),
    counted bigint not null,
    seen bigint not null,
    removed bigint not null,
    missing bigint not null,
    stale bigint not null,
    gone bigint not null,
    on_its_way bigint not null,
    never_sent bigint not null,
    differing bigint not null,
    is_complete boolean not null,
    created_at timestamptz not null default now(),
    unique (run_id, entity)
);

comment on table mirror.drift is 'How far mirror and engine were apart, by run: drift over time.';
comment on column mirror.drift.counted is 'How many the engine counts in all.';
comment on column mirror.drift.seen is 'How many it listed.';
comment on column mirror.drift.removed is 'Of these, removed while the run went on.';
comment on column mirror.drift.missing is 'The engine had them, and the mirror did not. Healed, if the run was to heal.';
comment on column mirror.drift.stale is 'The mirror had them in another state than the engine.';
comment on column mirror.drift.gone is 'The mirror had them, and the engine no longer did.';
comment on column mirror.drift.on_its_way is
'Differed, but a hook had come, or came while the run went on: in none of the three.';
comment on column mirror.drift.never_sent is 'Of the three, those of which no hook had told, for all that the inbox knows.';
comment on column mirror.drift.differing is 'Still differ.';

create index drift_integration_id on mirror.drift (integration_id, created_at);

create table mirror.hand_edits (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    source public.commerce_engine not null,
    entity text not null check (entity in ('customer', 'order')),
    source_id text not null,
    actor text not null,
    table_name text not null,
    action text not null check (action in ('insert', 'update', 'delete')),
    columns text[] not null default '{}',
    created_at timestamptz not null default now()
);

comment on table mirror.hand_edits is
'Who changed by hand what belongs to the engine. The next reconcile puts it right; the contents are not noted.';
comment on column mirror.hand_edits.source_id is 'The engine''s id of the customer or order that was changed, or whose part was.';
comment on column mirror.hand_edits.columns is 'Which columns were changed.';

create index hand_edits_source_id on mirror.hand_edits (store_id, source, entity, source_id);

-- What the silence alarm knows of an integration. Learned from the inbox and kept, for the inbox forgets.

create table mirror.hook_gaps (
    integration_id uuid not null references mirror.integrations (id),
    day date not null,
    hooks bigint not null,
    longest interval not null,
    primary key (integration_id, day)
);

comment on table mirror.hook_gaps is 'How many events came on each day (UTC), and the longest wait for one that came on it.';

create table mirror.hook_pulse (
    integration_id uuid primary key references mirror.integrations (id),
    last_id uuid not null,
    last_at timestamptz not null
);

comment on table mirror.hook_pulse is 'How far the inbox was looked through for gaps: the last event of each integration there.';

insert into mirror.schedule (job, command, every) values
('learn_hook_gaps', 'select mirror.learn_hook_gaps()', '10 minutes'),
('prune_runs', 'select mirror.prune_runs()', '1 hour');

create function mirror.digest(p_lines text[]) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select encode(sha256(convert_to(coalesce(array_to_string(p_lines, E'\n'), ''), 'utf8')), 'hex')
$$;

comment on function mirror.digest(text[]) is 'SHA-256 of lines, in hexadecimal digits.';
revoke execute on function mirror.digest(text[]) from public;
grant execute on function mirror.digest(text[]) to service_role;

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

    -- The backfill that was not finished goes on where it was.
    select r.id into v_run_id
    from (
        select l.id, l.state, l.options
        from mirror.sync_runs as l
        where l.integration_id = p_integration_id and l.kind = 'backfill'
        order by l.id desc
        limit 1
    ) as r
    where p_kind = 'backfill' and not p_restart and r.state = 'incomplete' and r.options = v_options;
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
'Begins a run, or goes on with the backfill of the same options that was not finished: {"run_id", "cursors"}. While another '
'run of the integration is in hand, it only says so: {"busy": its kind, "seconds": until its claim lapses}.';
revoke execute on function mirror.begin_run(uuid, text, json, uuid, double precision, boolean) from public;
grant execute on function mirror.begin_run(uuid, text, json, uuid, double precision, boolean) to service_role;

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
                    and e.event_type like p_entity || '.%' and e.created_at >= v_run.created_at
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
    else
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
    end if;
end
$$;

comment on function mirror.source_rows(uuid, text, text[]) is
'What tells whether these customers or orders are here as the engine has them. Ids that are not here are not in it.';
revoke execute on function mirror.source_rows(uuid, text, text[]) from public;
grant execute on function mirror.source_rows(uuid, text, text[]) to service_role;

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
            e.integration_id = i.id and e.entity_id = l.source_id and e.event_type like p_entity || '.%'
            and e.state = 'pending'
        limit 1
    ) as waiting on true
    left join lateral (
        select e.state, e.reason, e.created_at
        from mirror.webhook_events as e
        where e.integration_id = i.id and e.entity_id = l.source_id and e.event_type like p_entity || '.%'
        order by e.id desc
        limit 1
    ) as event on true
    where i.id = p_integration_id
$$;

comment on function mirror.find_causes(uuid, text, text[], text[]) is
'How customers or orders came to differ from the engine. edited: changed by hand. pending: a hook waits. dead: the hook that '
'told of it could not be applied. skipped: it was taken as not for us. unknown: of before contents were compared. remapped: '
'by another version of the mapping. unsent: no hook told of it.';
revoke execute on function mirror.find_causes(uuid, text, text[], text[]) from public;
grant execute on function mirror.find_causes(uuid, text, text[], text[]) to service_role;

create function mirror.compare_slice(p_run_id uuid, p_slice json) returns json
language plpgsql stable
set search_path = ''
as $$
declare
    v_entity constant text := p_slice ->> 'entity';
    v_read_at constant timestamptz := p_slice ->> 'read_at';
    v_listed mirror.fingerprint_columns := json_populate_record(null::mirror.fingerprint_columns, p_slice -> 'listed');
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

create function mirror.verify_slice(p_integration_id uuid, p_slice json) returns table (
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
    v_listed mirror.fingerprint_columns := json_populate_record(null::mirror.fingerprint_columns, p_slice -> 'listed');
    v_told mirror.told_columns := json_populate_record(null::mirror.told_columns, p_slice -> 'told');
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

comment on function mirror.verify_slice(uuid, json) is
'What stands here of each entity of a slice, against what the engine told: written, unchanged, skipped, vanished (listed, '
'and then gone), tombstoned, or rejected with the reason. p_slice as write_slice takes it.';
revoke execute on function mirror.verify_slice(uuid, json) from public;
grant execute on function mirror.verify_slice(uuid, json) to service_role;

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
    v_entity constant text := p_slice ->> 'entity';
    v_slice constant integer := p_slice ->> 'slice';
    v_read_at constant timestamptz := p_slice ->> 'read_at';
    v_listed mirror.fingerprint_columns := json_populate_record(null::mirror.fingerprint_columns, p_slice -> 'listed');
    v_receipt mirror.sync_receipts;
begin
    if p_records is not null then
        perform mirror.apply_records(p_records);
    end if;
    insert into mirror.sync_seen (run_id, entity, source_id, slice)
    select p_run_id, v_entity, l.source_id, v_slice
    from unnest(v_listed.source_id) as l (source_id)
    order by l.source_id
    on conflict do nothing;

    insert into mirror.sync_receipts as r (
        run_id, entity, slice, read_at, next_position, counted, listed, written, unchanged, skipped, vanished, tombstoned, rejected,
        source_hash, content_hash, written_ids, tombstoned_ids, found, differing
    )
    select
        p_run_id, v_entity, v_slice, v_read_at, p_slice ->> 'next_position',
        -- What was found gone nobody counted: of that, only what is there after all is the engine's.
        coalesce((p_slice ->> 'counted')::integer, count(*) filter (where v.outcome <> 'tombstoned')::integer),
        (
            select count(*) from unnest(v_listed.source_id) as l (source_id)
            inner join mirror.sync_seen as s
                on s.run_id = p_run_id and s.entity = v_entity and s.source_id = l.source_id and s.slice = v_slice
        ),
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
        coalesce((p_slice -> 'found')::jsonb, '[]'),
        coalesce(
            jsonb_agg(jsonb_build_object('source_id', v.source_id, 'reason', v.reason) order by v.source_id)
            filter (where v.outcome = 'rejected'),
            '[]'
        )
    from mirror.verify_slice(v_run.integration_id, p_slice) as v
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

create function mirror.list_rows(
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
    elsif p_since is null then
        return query
        select o.source_id, o.source_version, o.deleted_at is null and o.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
        where i.id = p_integration_id and o.source_id > p_after
        order by o.source_id
        limit p_limit;
    else -- few of many: by the index of order dates
        return query
        select o.source_id, o.source_version, o.deleted_at is null and o.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.order_date >= p_since
        where i.id = p_integration_id and o.source = i.engine and o.source_id > p_after
        order by o.source_id
        limit p_limit;
    end if;
end
$$;

comment on function mirror.list_rows(uuid, text, timestamptz, text, integer) is
'The p_limit customers or orders that follow the id p_after, of those registered or placed since p_since, if given. Live is '
'what is neither a tombstone nor a bare reference.';
revoke execute on function mirror.list_rows(uuid, text, timestamptz, text, integer) from public;
grant execute on function mirror.list_rows(uuid, text, timestamptz, text, integer) to service_role;

create function mirror.find_gone(p_run_id uuid, p_entity text, p_after text default '', p_is_count boolean default false)
returns json
language plpgsql stable
set search_path = ''
as $$
declare
    v_page constant integer := 10000;
    v_run mirror.sync_runs;
    v_live bigint;
    v_scanned bigint;
    v_last text;
    v_gone text[];
begin
    select * into strict v_run from mirror.sync_runs as r where r.id = p_run_id;
    select
        count(*), max(l.source_id), count(*) filter (where l.is_live),
        -- What was read since the run began may have come since.
        array_agg(l.source_id) filter (where l.is_live and l.source_version < v_run.read_from and not exists (
            select from mirror.sync_seen as s
            where s.run_id = p_run_id and s.entity = p_entity and s.source_id = l.source_id
        ))
    into v_scanned, v_last, v_live, v_gone
    from mirror.list_rows(
        v_run.integration_id, p_entity, (v_run.options ->> 'since')::timestamptz, p_after, v_page
    ) as l;
    return json_build_object(
        'live', v_live,
        'last', case when v_scanned = v_page then v_last end,
        'count', coalesce(cardinality(v_gone), 0),
        'gone', case when p_is_count then '[]' else coalesce((
            select json_agg(json_build_object('source_id', c.source_id, 'state', 'gone', 'cause', c.cause, 'detail', c.detail))
            from mirror.find_causes(v_run.integration_id, p_entity, v_gone, null) as c
        ), '[]') end
    );
end
$$;

comment on function mirror.find_gone(uuid, text, text, boolean) is
'What is live here and was not listed by the engine, among the 10,000 rows that follow the id p_after: {"live": how many '
'there are, "last": the id to go on after, or null, "count", and unless only that is wanted "gone": [{"source_id", "state", '
'"cause", "detail"}]}. In a run with "since" only what was placed or registered since then.';
revoke execute on function mirror.find_gone(uuid, text, text, boolean) from public;
grant execute on function mirror.find_gone(uuid, text, text, boolean) to service_role;

create function mirror.refuse_gone(p_run_id uuid, p_entity text, p_gone bigint, p_live bigint) returns text
language sql stable
set search_path = ''
as $$
    select format(
        '%s of %s %ss (%s %%) are gone from the engine: more than %s %%, so none was marked deleted',
        p_gone, p_live, p_entity, round(100.0 * p_gone / p_live, 1), round(100 * a.share, 1)
    )
    from mirror.sync_runs as r
    inner join mirror.integrations as i on i.id = r.integration_id
    cross join lateral (
        select coalesce((r.options ->> 'allow_gone')::numeric, i.max_gone_share) as share
    ) as a
    where r.id = p_run_id and p_gone > 10 and p_gone > a.share * p_live
$$;

comment on function mirror.refuse_gone(uuid, text, bigint, bigint) is
'The brake: says why so many may not be taken for gone, or null if they may. Ten are always believed; beyond, a share of '
'mirror.integrations.max_gone_share, or of what the run was told to allow.';
revoke execute on function mirror.refuse_gone(uuid, text, bigint, bigint) from public;
grant execute on function mirror.refuse_gone(uuid, text, bigint, bigint) to service_role;

create function mirror.read_found(p_run_id uuid, p_entity text, p_limit integer default 20) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(f.entry order by f.entry ->> 'state', f.id), '[]')
    from (
        select ranked.entry, ranked.id
        from (
            select
                e.entry, r.id, row_number() over (partition by e.entry ->> 'state' order by r.id, e.entry ->> 'source_id') as place
            from mirror.sync_receipts as r
            cross join lateral jsonb_array_elements(r.found) as e (entry)
            where r.run_id = p_run_id and r.entity = p_entity
        ) as ranked
        where ranked.place <= p_limit
    ) as f
$$;

comment on function mirror.read_found(uuid, text, integer) is
'Up to p_limit examples of each kind of what a run found to differ, as mirror.sync_receipts.found has them.';
revoke execute on function mirror.read_found(uuid, text, integer) from public;
grant execute on function mirror.read_found(uuid, text, integer) to service_role;

create function mirror.due_reconcile() returns json
language sql stable
set search_path = ''
as $$
    -- What is due, the full one first: it does the other's work, too.
    select coalesce(json_agg(json_build_object('slug', d.slug, 'is_full', d.is_full, 'since', d.since) order by d.slug), '[]')
    from (
        select
            i.slug,
            i.full_reconcile_every is not null and coalesce(
                last_full.created_at
                + case
                    when last_full.is_cut_off then least(i.full_reconcile_every, coalesce(i.reconcile_every, '1 hour'))
                    else i.full_reconcile_every
                end <= now(),
                true
            ) as is_full,
            coalesce(last_any.created_at + i.reconcile_every <= now(), i.reconcile_every is not null) as is_due,
            now() - i.reconcile_window as since
        from mirror.integrations as i
        inner join public.stores as s on s.id = i.store_id and s.is_active
        left join lateral (
            select
                r.created_at,
                -- What was read to its end has told its drift, of each entity.
                r.state in ('running', 'incomplete')
                and (select count(*) from mirror.drift as d where d.run_id = r.id) < jsonb_array_length(r.options -> 'entities')
                    as is_cut_off
            from mirror.sync_runs as r
            where
                r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
                and r.options ->> 'is_full' = 'true'
            order by r.id desc
            limit 1
        ) as last_full on true
        left join lateral (
            select r.created_at
            from mirror.sync_runs as r
            where r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
            order by r.id desc
            limit 1
        ) as last_any on true
        where
            i.is_active
            -- What was never brought over is not drift: a person begins.
            and exists (
                select from mirror.sync_runs as r
                where r.integration_id = i.id and r.kind = 'backfill' and r.state = 'complete'
            )
            and not exists (
                select from mirror.sync_runs as r
                where r.integration_id = i.id and r.state = 'running' and r.claimed_until > now()
            )
    ) as d
    where d.is_full or d.is_due
$$;

comment on function mirror.due_reconcile() is
'Which integrations the daemon is to compare with their engines now: [{"slug", "is_full", "since"}]. Those that a backfill has '
'brought over. A full one that was cut off is due again as soon as a window would be.';
revoke execute on function mirror.due_reconcile() from public;
grant execute on function mirror.due_reconcile() to service_role;

-- What the engine told is the engine's to change. Who changes it by hand is noted, and the source_hash of the customer or
-- order goes: the next reconcile finds that it is not as the engine has it, and reads it anew.

create function mirror.changed_columns(p_old jsonb, p_new jsonb, p_table regclass) returns text[]
language sql stable
set search_path = ''
as $$
    select coalesce(array_agg(n.key order by n.key), '{}')
    from jsonb_each(p_new) as n
    where
        p_old is not null and n.value is distinct from p_old -> n.key and n.key not in ('source_hash', 'updated_at')
        -- Generated ones have no value yet before the row is written.
        and n.key not in (select a.attname from pg_attribute as a where a.attrelid = p_table and a.attgenerated <> '')
$$;

comment on function mirror.changed_columns(jsonb, jsonb, regclass) is
'Which columns differ between two states of a row of a table; none without an old one.';
revoke execute on function mirror.changed_columns(jsonb, jsonb, regclass) from public;
grant execute on function mirror.changed_columns(jsonb, jsonb, regclass) to service_role;

create function mirror.note_hand_edit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    insert into mirror.hand_edits (store_id, source, entity, source_id, actor, table_name, action, columns)
    values (
        old.store_id, old.source, tg_argv[0], old.source_id, mirror.current_actor(), tg_table_name, lower(tg_op),
        case when tg_op = 'UPDATE' then mirror.changed_columns(to_jsonb(old), to_jsonb(new), tg_relid) else '{}' end
    );
    if tg_op = 'DELETE' then
        return old;
    end if;
    new.source_hash := null;
    new.source_version := old.source_version; -- a version from the future would keep the engine's own states out
    return new;
end
$$;

comment on function mirror.note_hand_edit() is
'Trigger: notes that a customer or order was changed by hand, and that it no longer is what the engine told. Its argument is '
'the entity.';
revoke execute on function mirror.note_hand_edit() from public;

create function mirror.note_part_edit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_owner constant text := case tg_argv[0] when 'order' then 'order_summary_id' else 'customer_id' end;
    v_old constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    v_new constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    v_owners constant uuid[] := array[v_old ->> v_owner, v_new ->> v_owner];
    v_columns constant text[] := mirror.changed_columns(v_old, coalesce(v_new, '{}'), tg_relid);
begin
    if tg_argv[0] = 'order' then
        update public.customer_orders_summary as o set source_hash = null where o.id = any(v_owners) and o.source_hash is not null;
        insert into mirror.hand_edits (store_id, source, entity, source_id, actor, table_name, action, columns)
        select o.store_id, o.source, 'order', o.source_id, mirror.current_actor(), tg_table_name, lower(tg_op), v_columns
        from public.customer_orders_summary as o
        where o.id = any(v_owners);
    else
        update public.customers as c set source_hash = null where c.id = any(v_owners) and c.source_hash is not null;
        insert into mirror.hand_edits (store_id, source, entity, source_id, actor, table_name, action, columns)
        select c.store_id, c.source, 'customer', c.source_id, mirror.current_actor(), tg_table_name, lower(tg_op), v_columns
        from public.customers as c
        where c.id = any(v_owners);
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    new.source_version := '-infinity'; -- older than whatever the engine will tell, which therefore replaces or removes it
    return new;
end
$$;

comment on function mirror.note_part_edit() is
'Trigger: the same for a line of an order or an address of a customer.';
revoke execute on function mirror.note_part_edit() from public;

create function mirror.recount_customer() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.refresh_customer_statistics(array[new.id]);
    return null;
end
$$;

comment on function mirror.recount_customer() is
'Trigger: what the mirror counts of a customer is counted anew when somebody writes another number there.';
revoke execute on function mirror.recount_customer() from public;

create function mirror.learn_hook_gaps() returns bigint
language plpgsql
set search_path = ''
as $$
declare
    v_learned bigint;
begin
    -- Ids follow time, so the primary key is the way through. The last minute is left alone: its transactions may still commit.
    with walked as (
        select e.id, e.integration_id, e.created_at
        from mirror.webhook_events as e
        where
            e.id > coalesce(
                (select p.last_id from mirror.hook_pulse as p order by p.last_id desc limit 1),
                '00000000-0000-0000-0000-000000000000'
            )
            and e.created_at < now() - interval '1 minute'
        order by e.id
        limit 100000
    ), gaps as (
        select
            w.id, w.integration_id, w.created_at,
            w.created_at - lag(w.created_at, 1, p.last_at) over (partition by w.integration_id order by w.id) as gap
        from walked as w
        left join mirror.hook_pulse as p on p.integration_id = w.integration_id
    ), by_day as (
        insert into mirror.hook_gaps as g (integration_id, day, hooks, longest)
        select
            gaps.integration_id, (gaps.created_at at time zone 'utc')::date, count(*),
            greatest(coalesce(max(gaps.gap), '0'), '0')
        from gaps
        group by 1, 2
        on conflict (integration_id, day) do update set
            hooks = g.hooks + excluded.hooks, longest = greatest(g.longest, excluded.longest)
        returning g.hooks
    ), latest as (
        insert into mirror.hook_pulse as p (integration_id, last_id, last_at)
        select distinct on (gaps.integration_id) gaps.integration_id, gaps.id, gaps.created_at
        from gaps
        order by gaps.integration_id, gaps.id desc
        on conflict (integration_id) do update set
            last_id = excluded.last_id, last_at = greatest(p.last_at, excluded.last_at)
    )
    select count(*) into v_learned from gaps;
    return v_learned;
end
$$;

comment on function mirror.learn_hook_gaps() is
'Looks through the part of the inbox that is new since the last time, and notes the longest wait of each day; returns how '
'many events it saw. Runs by itself every ten minutes.';
revoke execute on function mirror.learn_hook_gaps() from public;
grant execute on function mirror.learn_hook_gaps() to service_role;

create function mirror.hook_silence() returns table (
    integration_id uuid,
    slug text,
    last_hook_at timestamptz,
    silent interval,
    usual interval,
    alarm_after interval,
    is_alarm boolean
)
language sql stable
set search_path = ''
as $$
    select
        i.id, i.slug, k.last_at, now() - k.last_at, u.usual, a.alarm_after,
        coalesce(now() - k.last_at > a.alarm_after, false)
    from mirror.integrations as i
    inner join public.stores as s on s.id = i.store_id
    left join mirror.hook_pulse as p on p.integration_id = i.id
    left join lateral (
        -- After a look at the few that came since the inbox was last looked through.
        select greatest(p.last_at, max(e.created_at)) as last_at
        from mirror.webhook_events as e
        where
            e.id > coalesce(
                (select l.last_id from mirror.hook_pulse as l order by l.last_id desc limit 1),
                '00000000-0000-0000-0000-000000000000'
            )
            and e.integration_id = i.id
    ) as k on true
    left join lateral (
        select case when count(*) >= 7 then percentile_disc(0.9) within group (order by g.longest) end as usual
        from mirror.hook_gaps as g
        where g.integration_id = i.id and g.day >= current_date - 28
    ) as u on true
    cross join lateral (
        select case when u.usual is not null then greatest(u.usual * i.silence_factor::float8, i.silence_at_least) end as alarm_after
    ) as a
    where i.is_active and s.is_active
$$;

comment on function mirror.hook_silence() is
'How long each integration has been silent, and how long is usual: of the longest waits of the last 28 days, what nine of '
'ten stay within; not known before there were seven days with hooks. The alarm is on when the silence is longer than '
'silence_factor times the usual, and than silence_at_least.';
revoke execute on function mirror.hook_silence() from public;
grant execute on function mirror.hook_silence() to service_role;

create function mirror.list_alarms() returns table (
    integration text,
    alarm text,
    since timestamptz,
    detail text
)
language sql stable
set search_path = ''
as $$
    select
        h.slug, 'silence', h.last_hook_at + h.alarm_after,
        format(
            'no hook for %s; usually there is one within %s',
            date_trunc('minute', h.silent), case when h.usual < '1 minute' then 'a minute' else date_trunc('minute', h.usual)::text end
        )
    from mirror.hook_silence() as h
    where h.is_alarm
    union all
    select
        i.slug, 'hooks_not_sent', min(d.created_at),
        format('the engine changed %s customers or orders in the last day that no hook told of', sum(d.never_sent))
    from mirror.drift as d
    inner join mirror.integrations as i on i.id = d.integration_id and i.is_active
    where d.never_sent > 0 and d.created_at > now() - interval '1 day'
    group by i.slug
    union all
    select i.slug, 'reconcile_' || l.state, l.finished_at, l.reason
    from mirror.integrations as i
    cross join lateral (
        select newest.*
        from unnest(array['true', 'false']) as k (is_full)
        cross join lateral (
            select r.id, r.state, r.finished_at, r.reason
            from mirror.sync_runs as r
            where
                r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
                and r.options ->> 'is_full' = k.is_full and r.finished_at is not null
            order by r.id desc
            limit 1
        ) as newest
        -- Of what everything has shown, a window that is in order says nothing; the other way round it does.
        where newest.state in ('incomplete', 'refused') and not exists (
            select from mirror.sync_runs as r
            where
                r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
                and r.options ->> 'is_full' = 'true' and r.state = 'complete' and r.id > newest.id
        )
        order by newest.id desc
        limit 1
    ) as l
    where i.is_active
    order by 1, 2
$$;

comment on function mirror.list_alarms() is
'What somebody should look at. silence: no hooks for much longer than usual. hooks_not_sent: a reconcile found changes of '
'which no hook told, in the last day. reconcile_incomplete, reconcile_refused: the last one that was to heal '
'everything, or a window, did not.';
revoke execute on function mirror.list_alarms() from public;
grant execute on function mirror.list_alarms() to service_role;

create function mirror.count_rows(p_table regclass) returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
    v_pages constant bigint := pg_relation_size(p_table) / current_setting('block_size')::bigint;
    v_rows bigint;
begin
    if v_pages > 10000 then
        -- As the planner guesses: rows per page when the table was last analyzed, times the pages that it has now.
        select (c.reltuples / c.relpages * v_pages)::bigint into v_rows
        from pg_class as c
        where c.oid = p_table and c.relpages > 0 and c.reltuples >= 0;
    end if;
    if v_rows is null then
        execute format('select count(*) from %s', p_table) into v_rows;
    end if;
    return v_rows;
end
$$;

comment on function mirror.count_rows(regclass) is
'How many rows a table has: counted if it has at most 10,000 pages (80 MB), else as many as the planner believes.';
revoke execute on function mirror.count_rows(regclass) from public;
grant execute on function mirror.count_rows(regclass) to service_role;

create function mirror.count_inbox() returns table (state mirror.event_state, events bigint)
language plpgsql stable
set search_path = ''
as $$
declare
    v_pages constant bigint
        := pg_relation_size('mirror.webhook_events') / current_setting('block_size')::bigint;
begin
    if v_pages <= 10000 then
        return query
        select s.state, coalesce(c.events, 0)
        from unnest(enum_range(null::mirror.event_state)) as s (state)
        left join (
            select e.state, count(*) as events from mirror.webhook_events as e group by e.state
        ) as c on c.state = s.state;
        return;
    end if;
    -- What waits and what failed has an index and is few; of the rest a sample of the pages speaks for all.
    return query
    select 'pending'::mirror.event_state, count(*) from mirror.webhook_events as e where e.state = 'pending'
    union all
    select 'dead', count(*) from mirror.webhook_events as e where e.state = 'dead'
    union all
    select s.state, (coalesce(c.events, 0) * v_pages / 2000)::bigint
    from unnest(array['applied', 'skipped']::mirror.event_state[]) as s (state)
    left join (
        select e.state, count(*) as events
        from mirror.webhook_events as e tablesample system (100.0 * 2000 / v_pages)
        group by e.state
    ) as c on c.state = s.state;
end
$$;

comment on function mirror.count_inbox() is
'How many events of each state are in the inbox. Of more than 10,000 pages (80 MB), applied and skipped are estimated from a '
'sample.';
revoke execute on function mirror.count_inbox() from public;
grant execute on function mirror.count_inbox() to service_role;

create or replace function mirror.get_status() returns json
language sql stable
set search_path = ''
as $$
    select json_build_object(
        'inbox', (select json_object_agg(c.state, c.events order by c.state) from mirror.count_inbox() as c),
        'lag_seconds', coalesce((
            select extract(epoch from now() - min(e.created_at))::float8
            from mirror.webhook_events as e
            where e.state = 'pending'
        ), 0),
        'dead_letters', coalesce((
            select json_agg(json_build_object(
                'event_id', dead.event_id, 'event_type', dead.event_type, 'entity_id', dead.entity_id,
                'reason', dead.reason, 'settled_at', dead.settled_at
            ))
            from (
                select e.event_id, e.event_type, e.entity_id, e.reason, e.settled_at
                from mirror.webhook_events as e
                where e.state = 'dead'
                order by e.settled_at desc
                limit 10
            ) as dead
        ), '[]'),
        'outbox_waiting', (select count(*) from mirror.outbox as o where o.state = 'pending'),
        'alarms', coalesce((select json_agg(a) from mirror.list_alarms() as a), '[]'),
        'integrations', coalesce((
            select json_agg(json_build_object(
                'slug', h.slug,
                'last_hook_at', h.last_hook_at,
                'silent_seconds', extract(epoch from h.silent)::float8,
                'usual_seconds', extract(epoch from h.usual)::float8,
                'alarm_seconds', extract(epoch from h.alarm_after)::float8,
                'is_silent', h.is_alarm,
                'runs', (
                    select coalesce(json_agg(json_build_object(
                        'kind', k.kind, 'state', l.state, 'reason', l.reason, 'began_at', l.created_at, 'finished_at', l.finished_at,
                        'options', l.options
                    )), '[]')
                    from unnest(array['backfill', 'reconcile']) as k (kind)
                    cross join lateral (
                        select r.state, r.reason, r.created_at, r.finished_at, r.options
                        from mirror.sync_runs as r
                        where r.integration_id = h.integration_id and r.kind = k.kind
                        order by r.id desc
                        limit 1
                    ) as l
                ),
                'drift', (
                    select coalesce(json_agg(json_build_object(
                        'entity', n.entity, 'missing', l.missing, 'stale', l.stale, 'gone', l.gone, 'never_sent', l.never_sent,
                        'differing', l.differing, 'at', l.created_at
                    )), '[]')
                    from unnest(array['customer', 'order']) as n (entity)
                    cross join lateral (
                        select d.missing, d.stale, d.gone, d.never_sent, d.differing, d.created_at
                        from mirror.drift as d
                        inner join mirror.sync_runs as r on r.id = d.run_id and r.kind = 'reconcile'
                        where d.integration_id = h.integration_id and d.entity = n.entity
                        order by d.created_at desc
                        limit 1
                    ) as l
                )
            ) order by h.slug)
            from mirror.hook_silence() as h
        ), '[]'),
        'tables', json_build_object(
            'customers', mirror.count_rows('public.customers'),
            'customer_addresses', mirror.count_rows('public.customer_addresses'),
            'customer_orders_summary', mirror.count_rows('public.customer_orders_summary'),
            'customer_order_items', mirror.count_rows('public.customer_order_items'),
            'order_delivery_status', mirror.count_rows('public.order_delivery_status'),
            'order_delivery_status_events', mirror.count_rows('public.order_delivery_status_events')
        )
    )
$$;

comment on function mirror.get_status() is
'How the mirror does: events by state, the age in seconds of the oldest pending one, the newest dead letters, commands that '
'wait, alarms, the last runs and the drift of each integration, rows per table. Cheap however big the tables are.';

create trigger take_turn before insert or update or delete on public.customer_order_items
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.customer_addresses
for each statement execute function mirror.take_turn_first();

-- Delivery stage and tracking number are an admin's to change, the batch as well; contents follow from what the engine tells.

create trigger note_hand_edit before update on public.customers
for each row
when (
    not mirror.is_engine()
    and (
        old.source, old.source_id, old.source_version, old.email, old.phone_number, old.phone_as_entered,
        old.phone_verified, old.title, old.first_name, old.last_name, old.has_account, old.email_verified,
        old.marketing_consent, old.group_names, old.custom_fields, old.registered_at, old.deleted_at
    ) is distinct from (
        new.source, new.source_id, new.source_version, new.email, new.phone_number, new.phone_as_entered,
        new.phone_verified, new.title, new.first_name, new.last_name, new.has_account, new.email_verified,
        new.marketing_consent, new.group_names, new.custom_fields, new.registered_at, new.deleted_at
    )
)
execute function mirror.note_hand_edit('customer');
create trigger note_hand_removal before delete on public.customers
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('customer');

create trigger note_hand_edit before update on public.customer_orders_summary
for each row
when (
    not mirror.is_engine()
    and (
        old.source, old.source_id, old.source_version, old.customer_id, old.order_code, old.order_state, old.order_date,
        old.payment_method, old.currency, old.sub_total, old.shipping, old.tax, old.discount, old.total, old.total_with_tax,
        old.total_paid, old.total_refunded, old.coupon_codes, old.shipping_method, old.shipping_address, old.billing_address,
        old.contact_name, old.contact_phone, old.contact_email, old.custom_fields, old.cancelled_at, old.deleted_at
    ) is distinct from (
        new.source, new.source_id, new.source_version, new.customer_id, new.order_code, new.order_state, new.order_date,
        new.payment_method, new.currency, new.sub_total, new.shipping, new.tax, new.discount, new.total, new.total_with_tax,
        new.total_paid, new.total_refunded, new.coupon_codes, new.shipping_method, new.shipping_address, new.billing_address,
        new.contact_name, new.contact_phone, new.contact_email, new.custom_fields, new.cancelled_at, new.deleted_at
    )
)
execute function mirror.note_hand_edit('order');

create trigger note_hand_edit before insert or update on public.customer_order_items
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.customer_order_items
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');

create trigger note_hand_edit before insert or update on public.customer_addresses
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('customer');
create trigger note_hand_removal after delete on public.customer_addresses
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('customer');

create trigger recount after update of total_orders, total_spent, spent_by_currency, last_order_date on public.customers
for each row
when (
    pg_trigger_depth() = 0 and not mirror.is_engine()
    and (old.total_orders, old.total_spent, old.spent_by_currency, old.last_order_date)
    is distinct from (new.total_orders, new.total_spent, new.spent_by_currency, new.last_order_date)
)
execute function mirror.recount_customer();

alter table mirror.sync_cursors enable row level security;
alter table mirror.sync_cursors force row level security;
alter table mirror.sync_receipts enable row level security;
alter table mirror.sync_receipts force row level security;
alter table mirror.sync_runs enable row level security;
alter table mirror.sync_runs force row level security;
alter table mirror.sync_seen enable row level security;
alter table mirror.sync_seen force row level security;
alter table mirror.drift enable row level security;
alter table mirror.drift force row level security;
alter table mirror.hand_edits enable row level security;
alter table mirror.hand_edits force row level security;
alter table mirror.hook_gaps enable row level security;
alter table mirror.hook_gaps force row level security;
alter table mirror.hook_pulse enable row level security;
alter table mirror.hook_pulse force row level security;

grant select, insert, update, delete on
mirror.sync_cursors,
mirror.sync_receipts,
mirror.sync_runs,
mirror.sync_seen,
mirror.drift,
mirror.hook_gaps,
mirror.hook_pulse
to service_role;
grant select, delete on mirror.hand_edits to service_role;
