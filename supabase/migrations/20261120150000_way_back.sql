-- The way back: what an admin changes of a delivery is told to the engine, and what both sides change is settled.

-- The commands that wait already are looked through once.
set local statement_timeout = 0;

create type mirror.conflict_policy as enum ('last_write_wins', 'engine_wins', 'ask');
comment on type mirror.conflict_policy is
'What counts where shop and mirror have both changed a delivery since they last agreed: the later change, the shop''s, or '
'what an admin chooses in mirror.sync_conflicts.';

create type mirror.conflict_side as enum ('engine', 'mirror');
comment on type mirror.conflict_side is 'Whose values count: the engine''s, or those of the mirror''s admins.';

alter table mirror.integrations add column conflict_policy mirror.conflict_policy not null default 'last_write_wins';
comment on column mirror.integrations.conflict_policy is
'What counts where shop and mirror have both changed a delivery since they last agreed: last_write_wins (the later change), '
'engine_wins (the shop''s), or ask (nobody''s, until an admin chooses a side in mirror.sync_conflicts).';

alter type mirror.command_state add value 'skipped' before 'dead';
comment on type mirror.command_state is
'pending: to be sent, now or at available_at. sent: the engine has taken it. skipped: there is no need any more. dead: the '
'engine refused it, or it was tried too often. Of the last two reason says why.';


alter table mirror.outbox
add column handed_out jsonb,
add column is_confirmed boolean not null default false,
add column change_source_id text,
add column stage_set_at timestamptz,
add column tracking_number_set_at timestamptz,
drop constraint outbox_refusal_has_reason,
add constraint outbox_refusal_has_reason check (state in ('pending', 'sent') or reason is not null),
add constraint outbox_confirmed_was_handed_out check (handed_out is not null or not is_confirmed);
comment on column mirror.outbox.claimed_by is 'Token of the claim that holds the lease.';
comment on column mirror.outbox.handed_out is 'The payload that a sender was given last: the engine may have it.';
comment on column mirror.outbox.is_confirmed is 'The engine said, or shows, that it has what was handed out.';
comment on column mirror.outbox.change_source_id is
'The engine''s id of the change that came of the command: it is in the history already, as the admin''s.';
comment on column mirror.outbox.stage_set_at is
'When an admin set the stage that the command is about; empty: it is not about the stage.';
comment on column mirror.outbox.tracking_number_set_at is 'Likewise, the tracking number.';

create index outbox_dead on mirror.outbox (order_summary_id) where state = 'dead';

-- What has been waiting was set when it was queued last.
update mirror.outbox set stage_set_at = updated_at, tracking_number_set_at = updated_at where state = 'pending';

create table mirror.sync_conflicts (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    integration_id uuid not null references mirror.integrations (id),
    order_summary_id uuid not null references public.customer_orders_summary (id) on delete cascade,
    order_code text not null,
    engine_stage public.delivery_stage not null,
    engine_tracking_number text,
    engine_changed_at timestamptz not null,
    mirror_stage public.delivery_stage not null,
    mirror_tracking_number text,
    mirror_changed_at timestamptz not null,
    mirror_changed_by text not null,
    resolution mirror.conflict_side,
    resolved_by text,
    resolved_at timestamptz,
    outcome text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sync_conflicts_ended_has_outcome check ((resolved_at is null) = (outcome is null)),
    constraint sync_conflicts_chosen_is_ended check (resolution is null or resolved_at is not null)
);

comment on table mirror.sync_conflicts is
'Deliveries that shop and mirror have both changed, where the integration''s conflict_policy is ask. While one is open, nothing '
'is sent for its order, and neither side is overwritten. Choose a side in resolution.';
comment on column mirror.sync_conflicts.engine_stage is 'What the shop says.';
comment on column mirror.sync_conflicts.mirror_stage is 'What an admin has set here.';
comment on column mirror.sync_conflicts.resolution is
'Choose whose values count: engine (the shop''s) or mirror (the admin''s, here). It is done at once, and for good.';
comment on column mirror.sync_conflicts.resolved_at is 'Empty while the conflict is open.';
comment on column mirror.sync_conflicts.outcome is 'How it ended, in words.';

create unique index sync_conflicts_one_open on mirror.sync_conflicts (order_summary_id) where resolved_at is null;
create index sync_conflicts_order_summary_id on mirror.sync_conflicts (order_summary_id);
create index sync_conflicts_integration_id on mirror.sync_conflicts (integration_id);
create index sync_conflicts_store_id on mirror.sync_conflicts (store_id);

create trigger touch_updated_at before update on mirror.sync_conflicts
for each row execute function mirror.touch_updated_at();

create view mirror.undelivered_orders
with (security_invoker = true)
as
select k.order_summary_id, k.integration_id, 'conflict' as reason, k.created_at as since
from mirror.sync_conflicts as k
where k.resolved_at is null
union all
select c.order_summary_id, c.integration_id, 'not told to the shop', c.settled_at
from mirror.outbox as c
inner join public.customer_orders_summary as o on c.order_summary_id = o.id
where
    c.state = 'dead' and o.cancelled_at is null and o.deleted_at is null
    and (o.delivery_stage, o.tracking_number) is distinct from (o.source_delivery_stage, o.source_tracking_number)
    and not exists (
        select from mirror.outbox as later
        where later.order_summary_id = c.order_summary_id and (later.created_at, later.id) > (c.created_at, c.id)
    )
    and not exists (
        select from mirror.sync_conflicts as k where k.order_summary_id = c.order_summary_id and k.resolved_at is null
    );

comment on view mirror.undelivered_orders is
'Orders of which the engine is not told what is here, until an admin does something about it, each once.';

-- What becomes of a delivery that an admin has changed, when the engine tells of it. Three values are compared, for stage and
-- number each by itself: what both last agreed on (source_delivery_stage, source_tracking_number), what is here, what is told.

create function mirror.choose_side(
    p_agreed text,
    p_here text,
    p_told text,
    p_here_at timestamptz,
    p_told_at timestamptz,
    p_policy mirror.conflict_policy
) returns mirror.conflict_side
language sql immutable
set search_path = ''
as $$
    select (
        case
            when p_told is not distinct from p_agreed then 'mirror'
            when p_here is not distinct from p_agreed or p_here is not distinct from p_told then 'engine'
            when p_policy = 'engine_wins' then 'engine'
            when p_policy = 'ask' then null
            when p_here_at > p_told_at then 'mirror'
            else 'engine'
        end
    )::mirror.conflict_side
$$;

comment on function mirror.choose_side(text, text, text, timestamptz, timestamptz, mirror.conflict_policy) is
'Whose value counts, of a field that was agreed upon, is here, and is told by the engine. Null: both have changed it, and an '
'admin is to be asked.';
revoke execute on function mirror.choose_side(text, text, text, timestamptz, timestamptz, mirror.conflict_policy) from public;
grant execute on function mirror.choose_side(
    text, text, text, timestamptz, timestamptz, mirror.conflict_policy
) to service_role;

create function mirror.recognize_commands(
    p_orders uuid[],
    p_told mirror.order_columns,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- The first change in the engine's history that says what was handed out, and that we have not heard of, is our own.
    update mirror.outbox as c
    set change_source_id = ours.source_id
    from (
        select distinct on (k.id) k.id, r.source_id
        from unnest(p_stages.order_source_id, p_stages.source_id, p_stages.stage, p_stages.tracking_number)
            with ordinality as r (order_source_id, source_id, stage, tracking_number, position)
        inner join public.customer_orders_summary as o on o.source_id = r.order_source_id and o.id = any(p_orders)
        inner join mirror.outbox as k
            on k.order_summary_id = o.id and k.state = 'pending' and k.change_source_id is null
            and k.handed_out = jsonb_build_object('stage', r.stage, 'tracking_number', r.tracking_number)
        where
            not exists (
                select from public.order_delivery_status_events as e
                where e.order_summary_id = o.id and e.source_id = r.source_id
            )
            and not exists (
                select from mirror.outbox as before
                where before.order_summary_id = o.id and before.change_source_id = r.source_id
            )
        order by k.id, r.position
    ) as ours
    where c.id = ours.id;

    -- So the engine has agreed to it, whatever it says by now.
    perform mirror.confirm_commands(array(
        select c.id
        from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number) as r (source_id, stage, tracking_number)
        inner join public.customer_orders_summary as o on o.source_id = r.source_id and o.id = any(p_orders)
        inner join mirror.outbox as c on c.order_summary_id = o.id and c.state = 'pending'
        where
            c.change_source_id is not null
            or c.handed_out = jsonb_build_object('stage', r.stage, 'tracking_number', r.tracking_number)
    ));
end
$$;

comment on function mirror.recognize_commands(uuid[], mirror.order_columns, mirror.stage_columns) is
'Finds our own commands in what the engine tells of these orders: part of record_delivery.';
revoke execute on function mirror.recognize_commands(uuid[], mirror.order_columns, mirror.stage_columns) from public;
grant execute on function mirror.recognize_commands(uuid[], mirror.order_columns, mirror.stage_columns) to service_role;

create function mirror.confirm_commands(p_commands uuid[]) returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
    v_orders uuid[];
begin
    with confirmed as (
        update mirror.outbox as c
        set is_confirmed = true
        where c.id = any(p_commands) and c.handed_out is not null and not c.is_confirmed
        returning c.order_summary_id, c.handed_out
    ), agreed as (
        update public.customer_orders_summary as o
        set
            source_delivery_stage = (c.handed_out ->> 'stage')::public.delivery_stage,
            source_tracking_number = c.handed_out ->> 'tracking_number'
        from confirmed as c
        where o.id = c.order_summary_id
        returning o.id
    )
    select coalesce(array_agg(agreed.id), '{}') into v_orders from agreed;
    return v_orders;
end
$$;

comment on function mirror.confirm_commands(uuid[]) is
'Notes that the engine has taken what was handed out of these commands: it is what both agree on, until it tells something else. '
'Returns the orders of which that is new.';
revoke execute on function mirror.confirm_commands(uuid[]) from public;
grant execute on function mirror.confirm_commands(uuid[]) to service_role;

create type mirror.merged_delivery as (
    order_summary_id uuid,
    command_id uuid,
    stage public.delivery_stage,
    tracking_number text,
    changed_at timestamptz,
    stage_side mirror.conflict_side,
    number_side mirror.conflict_side,
    is_overruled boolean
);

create function mirror.merge_deliveries(
    p_orders uuid[],
    p_told mirror.order_columns,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_merged mirror.merged_delivery[];
begin
    select
        array_agg((
            o.id, c.id, r.stage, r.tracking_number, greatest(told_at.stage, told_at.tracking_number), side.stage, side.tracking_number,
            coalesce(
                side.stage = 'engine' and s.stage not in (o.source_delivery_stage, r.stage)
                or side.tracking_number = 'engine' and s.tracking_number is distinct from o.source_tracking_number
                and s.tracking_number is distinct from r.tracking_number,
                false
            )
        )::mirror.merged_delivery)
    into v_merged
    from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number) as r (source_id, stage, tracking_number)
    inner join public.customer_orders_summary as o on o.source_id = r.source_id and o.id = any(p_orders)
    inner join public.order_delivery_status as s on s.order_summary_id = o.id
    left join mirror.outbox as c on c.order_summary_id = o.id and c.state = 'pending'
    left join mirror.integrations as i on i.id = c.integration_id
    left join (
        select
            e.order_source_id,
            (array_agg(e.stage order by e.position desc))[1] as stage,
            (array_agg(e.tracking_number order by e.position desc))[1] as tracking_number,
            max(e.changed_at) filter (where e.stage is distinct from e.from_stage) as stage_at,
            max(e.changed_at) filter (where e.tracking_number is distinct from e.number_before) as number_at
        from (
            select h.*, lag(h.tracking_number) over (partition by h.order_source_id order by h.position) as number_before
            from unnest(
                p_stages.order_source_id, p_stages.from_stage, p_stages.stage, p_stages.tracking_number, p_stages.changed_at
            ) with ordinality as h (order_source_id, from_stage, stage, tracking_number, changed_at, position)
        ) as e
        group by e.order_source_id
    ) as latest on latest.order_source_id = r.source_id
    cross join lateral (
        -- Where the engine keeps no history of it, it is known only that it was so when it was read.
        select
            case when latest.stage = r.stage then latest.stage_at end as stage,
            case when latest.tracking_number is not distinct from r.tracking_number then latest.number_at end as tracking_number
    ) as known
    cross join lateral (
        select
            coalesce(known.stage, o.source_version) as stage,
            coalesce(known.tracking_number, o.source_version) as tracking_number,
            -- Nobody is asked about an order that no longer moves, or where nothing waits to be sent.
            case
                when c.id is null or s.is_cancelled then 'engine_wins'::mirror.conflict_policy else i.conflict_policy
            end as policy
    ) as told_at
    cross join lateral (
        select
            mirror.choose_side(
                o.source_delivery_stage::text, s.stage::text, r.stage::text, c.stage_set_at, told_at.stage, told_at.policy
            ) as stage,
            mirror.choose_side(
                o.source_tracking_number, s.tracking_number, r.tracking_number, c.tracking_number_set_at,
                told_at.tracking_number, told_at.policy
            ) as tracking_number
    ) as side;

    -- What nobody has decided about stays as it was agreed: the next telling is compared with that.
    update public.customer_orders_summary as o
    set
        source_delivery_stage = case when m.stage_side is null then o.source_delivery_stage else m.stage end,
        source_tracking_number = case when m.number_side is null then o.source_tracking_number else m.tracking_number end
    from unnest(v_merged) as m
    where
        o.id = m.order_summary_id
        and (
            m.stage_side is not null and o.source_delivery_stage is distinct from m.stage
            or m.number_side is not null and o.source_tracking_number is distinct from m.tracking_number
        );

    update public.order_delivery_status as s
    set
        stage = case when m.stage_side = 'engine' then m.stage else s.stage end,
        tracking_number = case when m.number_side = 'engine' then m.tracking_number else s.tracking_number end,
        note = null,
        updated_by = o.source::text
    from unnest(v_merged) as m
    inner join public.customer_orders_summary as o on o.id = m.order_summary_id
    where
        s.order_summary_id = m.order_summary_id
        and (
            m.stage_side = 'engine' and s.stage <> m.stage
            or m.number_side = 'engine' and s.tracking_number is distinct from m.tracking_number
        );

    perform mirror.note_conflicts(v_merged);

    -- The command says what is here now. If that is what the engine has, there is nothing to say, unless somebody is just saying it.
    update mirror.outbox as c
    set
        payload = jsonb_build_object('stage', s.stage, 'tracking_number', s.tracking_number),
        state = (case when here.is_told then 'skipped' else 'pending' end)::mirror.command_state,
        settled_at = case when here.is_told then now() end,
        claimed_by = case when here.is_told then null else c.claimed_by end,
        reason = case
            when not here.is_told then c.reason
            when m.is_overruled then 'the shop has changed it, too, and the shop''s change counts'
            else 'the shop has it already'
        end
    from unnest(v_merged) as m
    inner join public.order_delivery_status as s on s.order_summary_id = m.order_summary_id
    inner join public.customer_orders_summary as o on o.id = m.order_summary_id
    inner join mirror.outbox as k on k.id = m.command_id
    cross join lateral (select k.handed_out is null and not mirror.is_undelivered(s, o) as is_told) as here
    where
        c.id = m.command_id
        and (here.is_told or c.payload <> jsonb_build_object('stage', s.stage, 'tracking_number', s.tracking_number));
end
$$;

comment on function mirror.merge_deliveries(uuid[], mirror.order_columns, mirror.stage_columns) is
'Brings deliveries that admins have changed, and the engine was or is to be told of, together with what it tells: part of '
'record_delivery.';
revoke execute on function mirror.merge_deliveries(uuid[], mirror.order_columns, mirror.stage_columns) from public;
grant execute on function mirror.merge_deliveries(uuid[], mirror.order_columns, mirror.stage_columns) to service_role;

create function mirror.note_conflicts(p_merged mirror.merged_delivery[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into mirror.sync_conflicts as k (
        store_id, integration_id, order_summary_id, order_code, engine_stage, engine_tracking_number, engine_changed_at,
        mirror_stage, mirror_tracking_number, mirror_changed_at, mirror_changed_by
    )
    select
        c.store_id, c.integration_id, c.order_summary_id, s.order_code, m.stage, m.tracking_number, m.changed_at,
        s.stage, s.tracking_number, coalesce(greatest(c.stage_set_at, c.tracking_number_set_at), c.created_at), s.updated_by
    from unnest(p_merged) as m
    inner join mirror.outbox as c on c.id = m.command_id
    inner join public.order_delivery_status as s on s.order_summary_id = m.order_summary_id
    where m.stage_side is null or m.number_side is null
    on conflict (order_summary_id) where resolved_at is null do update set
        engine_stage = excluded.engine_stage,
        engine_tracking_number = excluded.engine_tracking_number,
        engine_changed_at = excluded.engine_changed_at,
        mirror_stage = excluded.mirror_stage,
        mirror_tracking_number = excluded.mirror_tracking_number;

    update mirror.sync_conflicts as k
    set resolved_at = now(), outcome = 'it settled by itself: the shop has told something else since'
    from unnest(p_merged) as m
    where
        k.order_summary_id = m.order_summary_id and k.resolved_at is null
        and m.stage_side is not null and m.number_side is not null;
end
$$;

comment on function mirror.note_conflicts(mirror.merged_delivery[]) is
'Opens the conflicts that an admin is to decide about, and closes those that there are no more: part of merge_deliveries.';
revoke execute on function mirror.note_conflicts(mirror.merged_delivery[]) from public;
grant execute on function mirror.note_conflicts(mirror.merged_delivery[]) to service_role;

create function mirror.complete_history(p_orders uuid[], p_stages_before jsonb) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, note, updated_by, actor, source_id,
        updated_at
    )
    select
        s.store_id, s.order_summary_id, s.order_code,
        coalesce((p_stages_before ->> s.order_summary_id::text)::public.delivery_stage, s.stage),
        s.stage, s.tracking_number, 'this is what counts of what shop and mirror said', s.updated_by, (select mirror.current_actor()), mirror.uuid_v7()::text,
        greatest(clock_timestamp(), latest.updated_at + interval '1 microsecond')
    from public.order_delivery_status as s
    cross join lateral (
        select e.stage, e.tracking_number, e.updated_at
        from public.order_delivery_status_events as e
        where e.order_summary_id = s.order_summary_id
        order by e.updated_at desc, e.id desc
        limit 1
    ) as latest
    where
        s.order_summary_id = any(p_orders)
        and (s.stage, s.tracking_number) is distinct from (latest.stage, latest.tracking_number)
        and not exists (
            select from mirror.sync_conflicts as k where k.order_summary_id = s.order_summary_id and k.resolved_at is null
        );
end
$$;

comment on function mirror.complete_history(uuid[], jsonb) is
'Lets the history of these orders end with what holds, where two sides had changed it and the later entry is not what counts. '
'p_stages_before: by order, the stage that it had before.';
revoke execute on function mirror.complete_history(uuid[], jsonb) from public;
grant execute on function mirror.complete_history(uuid[], jsonb) to service_role;

create or replace function mirror.record_delivery(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_told mirror.order_columns,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_before jsonb;
    v_commanded uuid[];
begin
    -- Where the orders were, as far as their deliveries did not only begin now.
    select coalesce(jsonb_object_agg(s.order_summary_id, s.stage), '{}') into v_before
    from public.order_delivery_status as s
    where s.order_summary_id = any(p_orders) and s.created_at < now();

    -- Orders of which the engine was told something, or is to be.
    v_commanded := array(select distinct c.order_summary_id from mirror.outbox as c where c.order_summary_id = any(p_orders));
    if cardinality(v_commanded) > 0 then
        perform mirror.recognize_commands(v_commanded, p_told, p_stages);
    end if;

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, r.from_stage, r.stage, r.tracking_number, p_source::text,
        (select mirror.current_actor()), r.source_id, r.changed_at
    from unnest(
        p_stages.order_source_id, p_stages.source_id, p_stages.from_stage, p_stages.stage,
        p_stages.tracking_number, p_stages.changed_at
    ) as r (order_source_id, source_id, from_stage, stage, tracking_number, changed_at)
    cross join lateral (
        select k.id, k.store_id, k.order_code
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each: a planner that does not know the table yet would read all orders of the store
    ) as o
    where
        o.id = any(p_orders)
        -- What came of a command is in the history as the admin's.
        and not (o.id = any(v_commanded) and exists (
            select from mirror.outbox as c where c.order_summary_id = o.id and c.change_source_id = r.source_id
        ))
    on conflict (order_summary_id, source_id) do nothing;

    if cardinality(v_commanded) > 0 then
        perform mirror.merge_deliveries(v_commanded, p_told, p_stages);
        perform mirror.complete_history(v_commanded, v_before);
    end if;

    -- Of all others, what the engine tells counts as soon as it is something else than before, stage and number each for itself.
    with told as (
        select
            o.id, r.stage, r.tracking_number,
            o.source_delivery_stage is distinct from r.stage as has_new_stage,
            o.source_tracking_number is distinct from r.tracking_number as has_new_number
        from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number)
            as r (source_id, stage, tracking_number)
        cross join lateral (
            select k.id, k.source_delivery_stage, k.source_tracking_number
            from public.customer_orders_summary as k
            where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
            offset 0
        ) as o
        where
            o.id = any(p_orders) and o.id <> all(v_commanded)
            and (o.source_delivery_stage, o.source_tracking_number) is distinct from (r.stage, r.tracking_number)
    ), noted as (
        update public.customer_orders_summary as o
        set source_delivery_stage = told.stage, source_tracking_number = told.tracking_number
        from told
        where o.id = told.id
    )
    update public.order_delivery_status as s
    set
        stage = case when told.has_new_stage then told.stage else s.stage end,
        tracking_number = case when told.has_new_number then told.tracking_number else s.tracking_number end,
        note = null,
        updated_by = p_source::text
    from told
    where
        s.order_summary_id = told.id
        and (
            told.has_new_stage and s.stage <> told.stage
            or told.has_new_number and s.tracking_number is distinct from told.tracking_number
        );

    update public.order_delivery_status as s
    set carrier = r.carrier
    from unnest(p_told.source_id, p_told.carrier) as r (source_id, carrier)
    cross join lateral (
        select d.id, k.id as order_summary_id, d.carrier
        from public.customer_orders_summary as k
        inner join public.order_delivery_status as d on d.order_summary_id = k.id
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
        offset 0
    ) as known
    where
        known.order_summary_id = any(p_orders) and known.carrier is distinct from r.carrier and s.id = known.id;

    -- An engine that keeps no history of its own: the reading is when we learned of the stage.
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, coalesce((v_before ->> o.id::text)::public.delivery_stage, latest.stage),
        o.source_delivery_stage, o.source_tracking_number, p_source::text, (select mirror.current_actor()),
        'read ' || to_char(o.source_version at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        o.source_version
    from public.customer_orders_summary as o
    cross join lateral (
        select e.stage
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id and e.updated_by = p_source::text
        order by e.updated_at desc, e.stage desc
        limit 1
    ) as latest
    where o.id = any(p_orders) and o.id <> all(v_commanded) and latest.stage <> o.source_delivery_stage;

    perform mirror.time_stages(p_orders);
end
$$;

-- The way back: what admins change becomes commands, which are claimed, handed out and settled. See mirror.outbox.

create function mirror.delivery_payload(p_status public.order_delivery_status) returns jsonb
language sql immutable
set search_path = ''
as $$
    select jsonb_build_object('stage', p_status.stage, 'tracking_number', p_status.tracking_number)
$$;

comment on function mirror.delivery_payload(public.order_delivery_status) is 'What set_delivery says of a delivery.';
revoke execute on function mirror.delivery_payload(public.order_delivery_status) from public;
grant execute on function mirror.delivery_payload(public.order_delivery_status) to service_role;

create function mirror.is_undelivered(
    p_status public.order_delivery_status, p_order public.customer_orders_summary
) returns boolean
language sql immutable
set search_path = ''
as $$
    select
        (p_status.stage, p_status.tracking_number)
        is distinct from (p_order.source_delivery_stage, p_order.source_tracking_number)
$$;

comment on function mirror.is_undelivered(public.order_delivery_status, public.customer_orders_summary) is
'Whether stage or tracking number of an order are not what it and the engine agree on.';
revoke execute on function mirror.is_undelivered(public.order_delivery_status, public.customer_orders_summary) from public;
grant execute on function mirror.is_undelivered(public.order_delivery_status, public.customer_orders_summary) to service_role;

create function mirror.queue_commands(
    p_orders uuid[],
    p_stage_set uuid[] default '{}',
    p_number_set uuid[] default '{}'
) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_now constant timestamptz := clock_timestamp();
    v_queued integer;
begin
    if cardinality(p_orders) = 0 then
        return 0;
    end if;

    -- A command that may have reached the engine, or that this transaction has queued, says it anew.
    update mirror.outbox as c
    set
        payload = mirror.delivery_payload(s),
        stage_set_at = case when c.order_summary_id = any(p_stage_set) then v_now else c.stage_set_at end,
        tracking_number_set_at = case when c.order_summary_id = any(p_number_set) then v_now else c.tracking_number_set_at end,
        available_at = case when c.claimed_by is null then now() else c.available_at end,
        attempts = case when c.claimed_by is null then 0 else c.attempts end
    from public.order_delivery_status as s
    where
        s.order_summary_id = c.order_summary_id and c.order_summary_id = any(p_orders) and c.state = 'pending'
        and (c.handed_out is not null or c.created_at = now());

    update mirror.outbox as c
    set state = 'skipped', reason = 'superseded by a newer change', settled_at = now(), claimed_by = null
    where
        c.order_summary_id = any(p_orders) and c.state = 'pending'
        and c.handed_out is null and c.created_at < now();

    insert into mirror.outbox as c (
        store_id, integration_id, order_summary_id, command, payload, stage_set_at, tracking_number_set_at
    )
    select
        s.store_id, i.id, s.order_summary_id, 'set_delivery', mirror.delivery_payload(s),
        case when s.order_summary_id = any(p_stage_set) then v_now else before.stage_set_at end,
        case when s.order_summary_id = any(p_number_set) then v_now else before.tracking_number_set_at end
    from public.order_delivery_status as s
    inner join public.customer_orders_summary as o on o.id = s.order_summary_id
    cross join lateral (
        select k.id
        from mirror.integrations as k
        where k.store_id = o.store_id and k.engine = o.source
        order by k.is_active desc, k.id
        limit 1
    ) as i
    left join lateral (
        -- What an earlier command was to say, and the engine was not told.
        select l.stage_set_at, l.tracking_number_set_at
        from (
            select k.state, k.settled_at, k.stage_set_at, k.tracking_number_set_at
            from mirror.outbox as k
            where k.order_summary_id = s.order_summary_id
            order by k.created_at desc, k.id desc
            limit 1
        ) as l
        where l.state <> 'sent' or l.settled_at = now()
    ) as before on true
    where s.order_summary_id = any(p_orders)
    on conflict (order_summary_id, command) where state = 'pending' do nothing;

    select count(*) into v_queued
    from mirror.outbox as c
    where c.order_summary_id = any(p_orders) and c.state = 'pending';
    if v_queued > 0 then
        perform pg_notify('mirror_outbox', '');
    end if;
    return v_queued;
end
$$;

comment on function mirror.queue_commands(uuid[], uuid[], uuid[]) is
'Queues what is to be told to the engine of these orders, and wakes the daemon; returns how many wait. p_stage_set, '
'p_number_set: those whose stage or number has just been set.';
revoke execute on function mirror.queue_commands(uuid[], uuid[], uuid[]) from public;
grant execute on function mirror.queue_commands(uuid[], uuid[], uuid[]) to service_role;

create function mirror.claim_commands(p_claim uuid, p_integration_id uuid, p_limit integer, p_lease interval)
returns table (id uuid, source_id text, attempts integer)
language sql
set search_path = ''
as $$
    -- Materialized: see mirror.claim_events.
    with due as materialized (
        select c.id
        from mirror.outbox as c
        where
            c.state = 'pending' and c.available_at <= now() and c.integration_id = p_integration_id
            and not exists (
                select from mirror.sync_conflicts as k
                where k.order_summary_id = c.order_summary_id and k.resolved_at is null
            )
        order by c.available_at, c.id
        limit p_limit
        for update skip locked
    )
    update mirror.outbox as c
    set claimed_by = p_claim, available_at = now() + p_lease, attempts = c.attempts + 1
    from due, public.customer_orders_summary as o
    where c.id = due.id and o.id = c.order_summary_id
    returning c.id, o.source_id, c.attempts
$$;

comment on function mirror.claim_commands(uuid, uuid, integer, interval) is
'Leases up to p_limit due commands of an integration to the claim p_claim (a fresh UUID) for p_lease, but none of an order about '
'which a conflict is open. What is not settled by then may be claimed by anyone.';
revoke execute on function mirror.claim_commands(uuid, uuid, integer, interval) from public;
grant execute on function mirror.claim_commands(uuid, uuid, integer, interval) to service_role;

create function mirror.lock_commands(p_claim uuid, p_commands uuid[], p_records json) returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
    v_store_id uuid;
    v_source public.commerce_engine;
    v_source_ids text[];
begin
    perform mirror.take_turn(p_together => true);
    select i.store_id, i.engine, array_agg(o.source_id) into v_store_id, v_source, v_source_ids
    from mirror.outbox as c
    inner join mirror.integrations as i on i.id = c.integration_id
    inner join public.customer_orders_summary as o on o.id = c.order_summary_id
    where c.id = any(p_commands)
    group by i.store_id, i.engine;

    -- In the order in which apply_records locks: customers, then orders.
    perform mirror.lock_customers(v_store_id, v_source, array(
        select json_array_elements_text(p_records #> '{0,orders,customer_source_id}')
        union
        select k.source_id
        from public.customer_orders_summary as o
        inner join public.customers as k on k.id = o.customer_id
        where o.store_id = v_store_id and o.source = v_source and o.source_id = any(v_source_ids)
    ));
    perform mirror.lock_orders(v_store_id, v_source, v_source_ids);
    return array(
        select c.id
        from mirror.outbox as c
        where c.id = any(p_commands) and c.claimed_by = p_claim and c.state = 'pending'
    );
end
$$;

comment on function mirror.lock_commands(uuid, uuid[], json) is
'Locks the orders of these commands, which are one integration''s, and the customers that p_records names, as apply_records '
'would; returns the commands that the claim still holds.';
revoke execute on function mirror.lock_commands(uuid, uuid[], json) from public;
grant execute on function mirror.lock_commands(uuid, uuid[], json) to service_role;

create function mirror.end_commands(p_commands uuid[], p_state mirror.command_state, p_reason text default null) returns void
language plpgsql
set search_path = ''
as $$
begin
    update mirror.outbox as c
    set
        state = p_state,
        reason = p_reason,
        settled_at = now(),
        claimed_by = null,
        payload = case when p_state in ('sent', 'dead') then coalesce(c.handed_out, c.payload) else c.payload end
    where c.id = any(p_commands);

    -- What an admin has set since it was handed out is a command of its own.
    perform mirror.queue_commands(array(
        select s.order_summary_id
        from mirror.outbox as c
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        inner join public.order_delivery_status as s on s.order_summary_id = o.id
        where
            c.id = any(p_commands) and c.handed_out <> mirror.delivery_payload(s)
            and not s.is_cancelled and mirror.is_undelivered(s, o)
    ));
end
$$;

comment on function mirror.end_commands(uuid[], mirror.command_state, text) is
'Settles pending commands for good, and queues what has changed since they were handed out.';
revoke execute on function mirror.end_commands(uuid[], mirror.command_state, text) from public;
grant execute on function mirror.end_commands(uuid[], mirror.command_state, text) to service_role;

create function mirror.count_ended(p_commands uuid[]) returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'sent', count(*) filter (where c.state = 'sent'),
        'skipped', count(*) filter (where c.state::text = 'skipped'),
        'dead', count(*) filter (where c.state = 'dead'),
        'retried', count(*) filter (where c.state = 'pending' and c.claimed_by is null)
    )
    from mirror.outbox as c
    where c.id = any(p_commands)
$$;

comment on function mirror.count_ended(
    uuid[]
) is 'How many of these commands were sent, skipped, refused, or given back for later.';
revoke execute on function mirror.count_ended(uuid[]) from public;
grant execute on function mirror.count_ended(uuid[]) to service_role;

create function mirror.hand_out_commands(p_claim uuid, p_commands uuid[], p_records json) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_held uuid[];
begin
    v_held := mirror.lock_commands(p_claim, p_commands, p_records);
    perform mirror.apply_records(p_records);

    perform mirror.end_commands(array(
        select c.id from mirror.outbox as c where c.id = any(v_held) and c.state = 'pending' and c.is_confirmed
    ), 'sent');
    perform mirror.end_commands(array(
        select c.id
        from mirror.outbox as c
        inner join public.order_delivery_status as s on s.order_summary_id = c.order_summary_id
        where c.id = any(v_held) and c.state = 'pending' and s.is_cancelled
    ), 'skipped', 'the order is cancelled or deleted in the shop');
    perform mirror.end_commands(array(
        select c.id
        from mirror.outbox as c
        inner join public.order_delivery_status as s on s.order_summary_id = c.order_summary_id
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        where c.id = any(v_held) and c.state = 'pending' and not mirror.is_undelivered(s, o)
    ), 'skipped', 'the shop has it already');

    update mirror.outbox as c
    set
        claimed_by = null, available_at = now(), attempts = 0, handed_out = null,
        reason = 'both sides have changed it: choose one in mirror.sync_conflicts'
    from mirror.sync_conflicts as k
    where c.id = any(v_held) and c.state = 'pending' and k.order_summary_id = c.order_summary_id and k.resolved_at is null;

    update mirror.outbox as c
    set payload = mirror.delivery_payload(s), handed_out = mirror.delivery_payload(s)
    from public.order_delivery_status as s
    where c.id = any(v_held) and c.claimed_by = p_claim and s.order_summary_id = c.order_summary_id;

    return mirror.count_ended(v_held) || jsonb_build_object('handed_out', coalesce((
        select jsonb_agg(jsonb_build_object(
            'id', c.id, 'source_id', o.source_id, 'attempts', c.attempts, 'delivery', c.handed_out
        ) order by c.created_at, c.id)
        from mirror.outbox as c
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        where c.id = any(v_held) and c.claimed_by = p_claim
    ), '[]'));
end
$$;

comment on function mirror.hand_out_commands(uuid, uuid[], json) is
'Applies what the engine says now of the orders of these commands, and gives back those that it is still to be told: '
'{"handed_out": [{"id", "source_id", "attempts", "delivery": {"stage", "tracking_number"}}], "sent", "skipped", "dead", '
'"retried"}; the last four count what needs no telling now. p_records as apply_records takes it.';
revoke execute on function mirror.hand_out_commands(uuid, uuid[], json) from public;
grant execute on function mirror.hand_out_commands(uuid, uuid[], json) to service_role;

create function mirror.settle_commands(p_claim uuid, p_records json, p_settlements json) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_settlements mirror.settlement_columns := json_populate_record(null::mirror.settlement_columns, p_settlements);
    v_held uuid[];
    v_taken uuid[];
    v_ended record;
    v_actor text;
begin
    v_held := mirror.lock_commands(p_claim, v_settlements.id, p_records);
    -- It is the engine's word that follows, and with it daemons take their turns together.
    select mirror.act_as('engine:' || i.engine) into v_actor
    from mirror.outbox as c
    inner join mirror.integrations as i on i.id = c.integration_id
    where c.id = v_settlements.id[1];
    v_taken := mirror.confirm_commands(array(
        select s.id
        from unnest(v_settlements.id, v_settlements.outcome) as s (id, outcome)
        where s.id = any(v_held) and s.outcome in ('sent', 'unread')
    ));
    -- What the engine said before it took them is no longer what it says: until it is read again, nobody knows.
    update public.customer_orders_summary as o set source_hash = null where o.id = any(v_taken);
    perform mirror.act_as(v_actor);
    perform mirror.apply_records(p_records);

    for v_ended in
        select ends.state, ends.reason, array_agg(c.id) as commands
        from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
            as s (id, outcome, reason, retry_after)
        inner join mirror.outbox as c on c.id = s.id and c.claimed_by = p_claim
        cross join lateral (
            -- What the engine has was sent, whatever the sender was answered.
            select
                (case
                    when c.is_confirmed then 'sent'
                    when s.outcome = 'retry' then 'dead' -- nobody tries so often
                    else s.outcome
                end)::mirror.command_state as state,
                case when not c.is_confirmed then s.reason end as reason
            where
                c.is_confirmed and s.outcome <> 'unread' or s.outcome in ('dead', 'skipped')
                or s.outcome = 'retry' and coalesce(
                    make_interval(secs => s.retry_after), mirror.retry_wait('command', c.attempts)
                ) is null
        ) as ends
        where c.id = any(v_held)
        group by ends.state, ends.reason
    loop
        perform mirror.end_commands(v_ended.commands, v_ended.state, v_ended.reason);
    end loop;

    update mirror.outbox as c
    set
        claimed_by = null,
        reason = s.reason,
        available_at = now() + coalesce(
            make_interval(secs => s.retry_after), mirror.retry_wait('command', c.attempts), interval '1 hour'
        )
    from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
        as s (id, outcome, reason, retry_after)
    where c.id = s.id and c.id = any(v_held) and c.claimed_by = p_claim;
    return mirror.count_ended(v_held);
end
$$;

comment on function mirror.settle_commands(uuid, json, json) is
'Applies what the engine says after the sending, and ends the lease of commands: outcome sent, skipped or dead (with a reason), '
'retry after so many seconds, or, where none are given, as mirror.retry_schedule says, or unread: the engine took it, but could '
'not be asked again. What the engine shows to have counts as sent in any case; what the claim no longer holds is left alone. '
'Returns how many were sent, skipped, dead and retried.';
revoke execute on function mirror.settle_commands(uuid, json, json) from public;
grant execute on function mirror.settle_commands(uuid, json, json) to service_role;

create function mirror.count_commands() returns table (
    integration text,
    is_active boolean,
    waiting bigint,
    waiting_since timestamptz,
    reason text,
    refused bigint,
    conflicts bigint
)
language sql stable
set search_path = ''
as $$
    select
        i.slug, i.is_active, coalesce(w.commands, 0), w.since, w.reason,
        (
            select count(*)
            from mirror.undelivered_orders as u
            where u.integration_id = i.id and u.reason = 'not told to the shop'
        ),
        (select count(*) from mirror.sync_conflicts as k where k.integration_id = i.id and k.resolved_at is null)
    from mirror.integrations as i
    left join (
        select
            c.integration_id, count(*) as commands, min(c.created_at) as since,
            (array_agg(c.reason order by c.updated_at desc) filter (where c.reason is not null))[1] as reason
        from mirror.outbox as c
        where c.state = 'pending'
        group by c.integration_id
    ) as w on w.integration_id = i.id
    order by i.slug
$$;

comment on function mirror.count_commands() is
'The way back, by integration: commands that wait, since when, and why the latest that was tried did not go through; orders of '
'which the engine refused the last command, and open conflicts.';
revoke execute on function mirror.count_commands() from public;
grant execute on function mirror.count_commands() to service_role;

create function public.resend_order_deliveries(order_code text default null) returns integer
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.take_turn();
    return mirror.queue_commands(array(
        select o.id
        from public.customer_orders_summary as o
        inner join mirror.undelivered_orders as u on u.order_summary_id = o.id and u.reason = 'not told to the shop'
        where o.order_code = resend_order_deliveries.order_code or resend_order_deliveries.order_code is null
    ));
end
$$;

comment on function public.resend_order_deliveries(text) is
'Tells the shop once more what it has refused, of one order or of all; returns how many. For after the cause is mended.';
revoke execute on function public.resend_order_deliveries(text) from public;
grant execute on function public.resend_order_deliveries(text) to service_role;

create function mirror.guard_conflict() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_op = 'DELETE' then
        if old.resolved_at is null
        and exists (select from public.customer_orders_summary as o where o.id = old.order_summary_id) then
            raise exception 'The conflict about order % is open and cannot be deleted.', old.order_code
            using errcode = 'restrict_violation', hint = 'Choose a side in resolution: engine or mirror.';
        end if;
        return old;
    elsif mirror.is_engine() or pg_trigger_depth() > 1 then
        return new;
    elsif old.resolved_at is not null and new.resolution is distinct from old.resolution then
        raise exception 'The conflict about order % is settled already.', old.order_code
        using errcode = 'check_violation', hint = 'Change the stage or the tracking number of the order instead.';
    elsif to_jsonb(new) - '{resolution,updated_at}'::text[] is distinct from to_jsonb(old) - '{resolution,updated_at}'::text[] then
        raise exception 'Of a conflict only resolution can be edited.'
        using errcode = 'check_violation', hint = 'Choose engine or mirror there; the rest is kept by the mirror.';
    elsif new.resolution is not null and old.resolution is null then
        new.resolved_at := now();
        new.resolved_by := mirror.current_actor();
        new.outcome := case new.resolution
            when 'engine' then 'the shop''s values were taken'
            else 'the mirror''s values were kept, and are sent to the shop'
        end;
    end if;
    return new;
end
$$;

comment on function mirror.guard_conflict() is 'Trigger: a conflict ends by choosing a side, once.';
revoke execute on function mirror.guard_conflict() from public;

create function mirror.follow_resolution() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_order public.customer_orders_summary;
    v_before jsonb;
    v_actor text;
begin
    select o.* into strict v_order from public.customer_orders_summary as o where o.id = new.order_summary_id;
    v_before := jsonb_build_object(v_order.id, v_order.delivery_stage);
    -- From here on both know of the other's change.
    update public.customer_orders_summary as o
    set source_delivery_stage = new.engine_stage, source_tracking_number = new.engine_tracking_number
    where o.id = v_order.id;

    if new.resolution = 'engine' then
        v_actor := mirror.act_as('engine:' || v_order.source);
        update public.order_delivery_status as s
        set
            stage = new.engine_stage, tracking_number = new.engine_tracking_number, note = null,
            updated_by = v_order.source::text
        where s.order_summary_id = v_order.id;
        update mirror.outbox as c
        set state = 'skipped', reason = new.outcome, settled_at = now(), claimed_by = null
        where c.order_summary_id = v_order.id and c.state = 'pending' and c.handed_out is null;
        perform mirror.complete_history(array[v_order.id], v_before);
        perform mirror.time_stages(array[v_order.id]);
        perform mirror.act_as(v_actor);
    else
        perform mirror.complete_history(array[v_order.id], v_before);
        perform mirror.queue_commands(array[v_order.id]);
    end if;
    return null;
end
$$;

comment on function mirror.follow_resolution() is 'Trigger: does what an admin has chosen in a conflict.';
revoke execute on function mirror.follow_resolution() from public;

create function mirror.follow_conflicts(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    with changed as (
        update mirror.sync_conflicts as k
        set
            mirror_stage = s.stage,
            mirror_tracking_number = s.tracking_number,
            mirror_changed_at = clock_timestamp(),
            mirror_changed_by = s.updated_by,
            resolved_at = case when is_equal.is_so then now() end,
            outcome = case when is_equal.is_so then 'it settled by itself: both sides say the same' end
        from public.order_delivery_status as s
        inner join mirror.sync_conflicts as open on open.order_summary_id = s.order_summary_id and open.resolved_at is null
        cross join lateral (
            select
                (s.stage, s.tracking_number) is not distinct from (open.engine_stage, open.engine_tracking_number) as is_so
        ) as is_equal
        where s.order_summary_id = any(p_orders) and k.id = open.id
        returning k.order_summary_id, k.engine_stage, k.engine_tracking_number, k.resolved_at
    )
    update public.customer_orders_summary as o
    set source_delivery_stage = changed.engine_stage, source_tracking_number = changed.engine_tracking_number
    from changed
    where o.id = changed.order_summary_id and changed.resolved_at is not null;
end
$$;

comment on function mirror.follow_conflicts(uuid[]) is
'Brings open conflicts up to what an admin has changed of these orders; one in which both sides say the same by now is closed.';
revoke execute on function mirror.follow_conflicts(uuid[]) from public;
grant execute on function mirror.follow_conflicts(uuid[]) to service_role;

-- Our own changes come back as entries of the engine's history, which are not in ours.

create or replace function mirror.read_orders(p_integration_id uuid, p_source_ids text[]) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(
        to_jsonb(o)
        || jsonb_build_object(
            'customer_source_id', c.source_id,
            'carrier', s.carrier,
            'delivery_stage', s.stage,
            'tracking_number', s.tracking_number,
            'items', coalesce((
                select jsonb_agg(to_jsonb(t) order by t.source_id)
                from public.customer_order_items as t
                where t.order_summary_id = o.id
            ), '[]'),
            'stages', coalesce(history.told, '[]'),
            'echoes', coalesce((
                select jsonb_agg(c.handed_out || jsonb_build_object('source_id', c.change_source_id))
                from mirror.outbox as c
                where c.order_summary_id = o.id and c.change_source_id is not null and c.handed_out = any(history.made_here)
            ), '[]')
        )
    ), '[]')
    from mirror.integrations as i
    inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
    left join public.customers as c on c.id = o.customer_id
    left join public.order_delivery_status as s on s.order_summary_id = o.id
    cross join lateral (
        select
            jsonb_agg(to_jsonb(e) || jsonb_build_object('changed_at', e.updated_at)) filter (where is_engines.is_so) as told,
            array_agg(jsonb_build_object('stage', e.stage, 'tracking_number', e.tracking_number))
            filter (where not is_engines.is_so) as made_here
        from public.order_delivery_status_events as e
        cross join lateral (
            -- A note is the mirror's own, see mirror.complete_history.
            select coalesce(e.actor, 'engine:' || e.updated_by) = 'engine:' || o.source and e.note is null as is_so
        ) as is_engines
        where e.order_summary_id = o.id
    ) as history
    where i.id = p_integration_id and o.source_id = any(p_source_ids) and o.source_version > '-infinity'
$$;

comment on function mirror.read_orders(uuid, text[]) is
'The orders with these ids as the tables have them, each with its items, its delivery status, and what the engine told of the '
'history (stages); no bare tombstones. echoes are the changes in the engine''s history that came of what admins have set '
'here: {"source_id", "stage", "tracking_number"}. In the history they are the admins'' own entries.';

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
        'commands', coalesce((select json_agg(c) from mirror.count_commands() as c), '[]'),
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
'wait, and the way back of each integration, alarms, the last runs and the drift of each integration, '
'rows per table. Cheap however big the tables are.';

create or replace function mirror.follow_delivery() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_moved uuid[];
    v_renumbered uuid[];
    v_changed uuid[];
begin
    if not mirror.is_engine() then
        insert into public.order_delivery_status_events (
            store_id, order_summary_id, order_code, from_stage, stage, tracking_number, note, updated_by, actor,
            source_id, updated_at
        )
        select
            a.store_id, a.order_summary_id, a.order_code, b.stage, a.stage, a.tracking_number, a.note, a.updated_by,
            mirror.current_actor(), mirror.uuid_v7()::text,
            case when a.stage <> b.stage and a.stage > 'ORDER_CONFIRMED' then a.stage_since else clock_timestamp() end
        from after as a
        full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
        where
            a.stage <> b.stage or a.tracking_number is distinct from b.tracking_number
            or (a.note is distinct from b.note and a.note is not null);

        select
            array_agg(a.order_summary_id) filter (where a.stage <> b.stage),
            array_agg(a.order_summary_id) filter (where a.tracking_number is distinct from b.tracking_number)
        into v_moved, v_renumbered
        from after as a
        full join before as b using (id);
        if v_moved is not null or v_renumbered is not null then
            v_changed := array(select distinct id from unnest(v_moved || v_renumbered) as c (id));
            perform mirror.queue_commands(v_changed, coalesce(v_moved, '{}'), coalesce(v_renumbered, '{}'));
            perform mirror.follow_conflicts(v_changed);
        end if;
    end if;

    update public.customer_orders_summary as o
    set delivery_stage = a.stage, tracking_number = a.tracking_number
    from after as a
    where
        o.id = a.order_summary_id
        and (o.delivery_stage, o.tracking_number) is distinct from (a.stage, a.tracking_number);
    return null;
end
$$;

create or replace function mirror.follow_cancellations(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_batches uuid[];
    v_ended uuid[];
    v_revived uuid[];
begin
    with turned as (
        update public.order_delivery_status as s
        set is_cancelled = not s.is_cancelled
        from public.customer_orders_summary as o
        where
            o.id = any(p_orders) and s.order_summary_id = o.id
            and s.is_cancelled <> (o.cancelled_at is not null or o.deleted_at is not null)
        returning s.order_summary_id, s.is_cancelled, mirror.is_undelivered(s, o) as is_undelivered
    )
    select
        array_agg(t.order_summary_id) filter (where t.is_cancelled),
        array_agg(t.order_summary_id) filter (where not t.is_cancelled and t.is_undelivered)
    into v_ended, v_revived
    from turned as t;
    update mirror.sync_conflicts as k
    set resolved_at = now(), outcome = 'the order is cancelled or deleted in the shop'
    where k.order_summary_id = any(v_ended) and k.resolved_at is null;
    perform mirror.queue_commands(coalesce(v_revived, '{}')); -- what an admin had set, and nobody was told of it

    v_batches := array(
        select distinct a.batch_id from public.order_batch_assignments as a where a.order_summary_id = any(p_orders)
    );
    if cardinality(v_batches) > 0 then
        perform mirror.lock_batches();
        perform mirror.recount_batches(v_batches);
    end if;
end
$$;

comment on function mirror.follow_cancellations(uuid[]) is
'Brings deliveries and batches up to the cancelling, deleting or reviving of these orders, and what the engine is to be told.';


create or replace view public.orders_needing_attention
with (security_invoker = true)
as
select o.id, o.store_id, o.order_code, u.reason, u.since, o.batch_id, o.delivery_stage
from mirror.undelivered_orders as u
inner join public.customer_orders_summary as o on u.order_summary_id = o.id
union all
select
    o.id, o.store_id, o.order_code, 'cancelled in batch' as reason, coalesce(o.cancelled_at, o.deleted_at) as since, o.batch_id,
    o.delivery_stage
from public.import_batches as b
inner join public.customer_orders_summary as o on b.id = o.batch_id
where b.status <> 'completed' and o.batch_id is not null and (o.cancelled_at is not null or o.deleted_at is not null)
union all
select o.id, o.store_id, o.order_code, 'unpaid', o.order_date, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.customer_orders_summary as o on st.id = o.store_id
where
    o.cancelled_at is null and o.deleted_at is null and o.total_paid < o.total_with_tax
    and o.delivery_stage > 'ORDER_CONFIRMED'
    and (o.delivery_stage = 'DELIVERED' or o.payment_method is null or o.payment_method <> all(st.pay_on_delivery_methods))
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
union all
select o.id, o.store_id, o.order_code, 'no tracking number', s.stage_since, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.order_delivery_status as s on st.id = s.store_id
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
where
    s.stage = 'DISPATCHED' and not s.is_cancelled and s.tracking_number is null
    and (o.total_paid >= o.total_with_tax or o.payment_method = any(st.pay_on_delivery_methods))
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
union all
select o.id, o.store_id, o.order_code, 'stuck', s.stage_since, o.batch_id, o.delivery_stage
from mirror.stuck_deliveries as s
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
inner join public.stores as st on s.store_id = st.id
where
    (s.stage <> 'DISPATCHED' or s.tracking_number is not null)
    and (
        o.total_paid >= o.total_with_tax or o.delivery_stage = 'ORDER_CONFIRMED'
        or o.payment_method = any(st.pay_on_delivery_methods)
    )
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id);

comment on view public.orders_needing_attention is
'Orders that somebody should look at, each once, with the most pressing reason: conflict (shop and mirror have both changed it), '
'not told to the shop (what was set here), cancelled in batch, unpaid (though on its way), '
'no tracking number (though dispatched), stuck (longer at its stage than usual).';

create trigger take_turn before insert or update or delete on mirror.sync_conflicts
for each statement execute function mirror.take_turn_first();
create trigger guard before update or delete on mirror.sync_conflicts
for each row execute function mirror.guard_conflict();
create trigger follow after update on mirror.sync_conflicts
for each row
when (old.resolution is null and new.resolution is not null)
execute function mirror.follow_resolution();

alter table mirror.sync_conflicts enable row level security;
alter table mirror.sync_conflicts force row level security;
grant select, insert, update, delete on mirror.sync_conflicts to service_role;
grant select on mirror.undelivered_orders to service_role;
