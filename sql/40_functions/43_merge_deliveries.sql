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
    perform mirror.note_what_counts(
        array(
            select s.order_summary_id
            from public.order_delivery_status as s
            cross join lateral (
                select e.stage, e.tracking_number
                from public.order_delivery_status_events as e
                where e.order_summary_id = s.order_summary_id
                order by e.updated_at desc, e.id desc
                limit 1
            ) as latest
            where
                s.order_summary_id = any(p_orders)
                and (s.stage, s.tracking_number) is distinct from (latest.stage, latest.tracking_number)
                and not exists (
                    select from mirror.sync_conflicts as k
                    where k.order_summary_id = s.order_summary_id and k.resolved_at is null
                )
        ),
        p_stages_before
    );
end
$$;

comment on function mirror.complete_history(uuid[], jsonb) is
'Lets the history of these orders end with what holds, where two sides had changed it and the later entry is not what counts. '
'p_stages_before: by order, the stage that it had before.';
revoke execute on function mirror.complete_history(uuid[], jsonb) from public;
grant execute on function mirror.complete_history(uuid[], jsonb) to service_role;

create function mirror.note_what_counts(p_orders uuid[], p_stages_before jsonb default '{}') returns void
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
        s.stage, s.tracking_number, 'this is what counts of what shop and mirror said', s.updated_by,
        (select mirror.current_actor()), mirror.uuid_v7()::text,
        greatest(clock_timestamp(), latest.updated_at + interval '1 microsecond')
    from public.order_delivery_status as s
    cross join lateral (
        select max(e.updated_at) as updated_at
        from public.order_delivery_status_events as e
        where e.order_summary_id = s.order_summary_id
    ) as latest
    where s.order_summary_id = any(p_orders);
end
$$;

comment on function mirror.note_what_counts(uuid[], jsonb) is
'Adds an entry of the mirror''s own, which says what holds, to the history of these orders. p_stages_before: see '
'complete_history.';
revoke execute on function mirror.note_what_counts(uuid[], jsonb) from public;
grant execute on function mirror.note_what_counts(uuid[], jsonb) to service_role;

create function mirror.is_made_here(
    p_entry public.order_delivery_status_events, p_source public.commerce_engine
) returns boolean
language sql stable
set search_path = ''
as $$
    -- A note is the mirror's own, see mirror.note_what_counts.
    select coalesce(p_entry.actor, 'engine:' || p_entry.updated_by) <> 'engine:' || p_source or p_entry.note is not null
$$;

comment on function mirror.is_made_here(public.order_delivery_status_events, public.commerce_engine) is
'Whether an entry of the history was made here, by an admin or the mirror itself; else the order''s engine told it.';
revoke execute on function mirror.is_made_here(public.order_delivery_status_events, public.commerce_engine) from public;
grant execute on function mirror.is_made_here(public.order_delivery_status_events, public.commerce_engine) to service_role;

create function mirror.note_handed_out(p_commands uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.note_what_counts(array(
        select c.order_summary_id
        from mirror.outbox as c
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        where
            c.id = any(p_commands)
            and not exists (
                select from public.order_delivery_status_events as e
                where
                    e.order_summary_id = o.id and mirror.is_made_here(e, o.source)
                    and c.handed_out = jsonb_build_object('stage', e.stage, 'tracking_number', e.tracking_number)
            )
    ));
end
$$;

comment on function mirror.note_handed_out(uuid[]) is
'Sees that what was handed out of these commands stands in the history as made here, for the engine''s entry of it is kept out. '
'It does not if the engine is told its own values anew, because a sender was on its way when they came to count.';
revoke execute on function mirror.note_handed_out(uuid[]) from public;
grant execute on function mirror.note_handed_out(uuid[]) to service_role;
