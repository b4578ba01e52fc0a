create function mirror.guard_delivery() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if mirror.is_engine() then
        return new; -- the engine is right about its own orders; record_delivery keeps the times
    elsif (new.order_summary_id, new.order_code, new.store_id)
    is distinct from (old.order_summary_id, old.order_code, old.store_id) then
        raise exception 'The delivery of order % stays with its order.', old.order_code
        using errcode = 'check_violation', hint = 'Change the row of the other order.';
    elsif pg_trigger_depth() < 2
    and (new.is_cancelled, new.confirmed_at, new.sourcing_at, new.arrived_at, new.dispatched_at, new.delivered_at)
    is distinct from
    (old.is_cancelled, old.confirmed_at, old.sourcing_at, old.arrived_at, old.dispatched_at, old.delivered_at) then
        raise exception 'is_cancelled and the times of the stages are kept by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'Change the stage; an order is cancelled in the shop.';
    end if;

    new.tracking_number := nullif(trim(new.tracking_number), '');
    if new.stage <> old.stage then
        if new.is_cancelled then
            raise exception 'Order % is cancelled: its delivery does not move.', old.order_code
            using errcode = 'check_violation', hint = 'If it is delivered all the same, place a new order in the shop.';
        elsif new.stage < old.stage and coalesce(current_setting('mirror.may_go_back', true), '') <> 'yes' then
            raise exception 'Order % is % already and cannot go back to %.', old.order_code, old.stage, new.stage
            using
                errcode = 'check_violation',
                hint = format(
                    'If that was a mistake, correct it in the SQL editor: '
                    'select correct_order_delivery_status(%L, %L, ''why'', ''your name'');',
                    old.order_code, new.stage
                );
        end if;
        select t.sourcing_at, t.arrived_at, t.dispatched_at, t.delivered_at
        into new.sourcing_at, new.arrived_at, new.dispatched_at, new.delivered_at
        from mirror.stage_times(new.order_summary_id, new.stage) as t;
        -- By the clock, not by the transaction's beginning: who waited for the row comes later.
        case new.stage
            when 'SOURCING' then new.sourcing_at := clock_timestamp();
            when 'ARRIVED' then new.arrived_at := clock_timestamp();
            when 'DISPATCHED' then new.dispatched_at := clock_timestamp();
            when 'DELIVERED' then new.delivered_at := clock_timestamp();
            else null; -- ORDER_CONFIRMED is when the order was placed
        end case;
    end if;
    -- Who and why belong to one change. Cells that are saved together come one by one: what this transaction has set stands.
    if old.updated_at < now() and coalesce(current_setting('mirror.names_itself', true), '') <> 'yes' then
        if new.stage <> old.stage and new.note is not distinct from old.note then
            new.note := null;
        end if;
        if new.updated_by = old.updated_by then
            new.updated_by := mirror.current_actor();
        end if;
    end if;
    return new;
end
$$;

comment on function mirror.guard_delivery() is 'Trigger: the rules of a delivery, in words that an admin reads.';
revoke execute on function mirror.guard_delivery() from public;

create function mirror.guard_delivery_end() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if exists (select from public.customer_orders_summary as o where o.id = old.order_summary_id) then
        raise exception 'The delivery of order % cannot be deleted.', old.order_code
        using errcode = 'restrict_violation', hint = 'Every order has one: change its stage, or cancel the order in the shop.';
    end if;
    return old;
end
$$;

comment on function mirror.guard_delivery_end() is 'Trigger: a delivery ends with its order only.';
revoke execute on function mirror.guard_delivery_end() from public;

create function mirror.follow_delivery() returns trigger
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

comment on function mirror.follow_delivery() is
'Trigger: a change of a delivery goes into the history and into the order; an admin''s, to the engine, too.';
revoke execute on function mirror.follow_delivery() from public;

create function mirror.require_tracking_number() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if exists (
        select from public.order_delivery_status as s
        inner join public.stores as st on st.id = s.store_id
        where
            s.id = new.id and st.requires_tracking_number and s.stage >= 'DISPATCHED'
            and s.tracking_number is null and not s.is_cancelled
            and s.updated_by <> all(enum_range(null::public.commerce_engine)::text[])
    ) then
        raise exception 'Order % has no tracking number yet and cannot be %.', new.order_code, new.stage
        using
            errcode = 'check_violation',
            hint = 'Enter its tracking_number first, or switch off requires_tracking_number in stores.';
    end if;
    return null;
end
$$;

comment on function mirror.require_tracking_number() is
'Trigger, at the end of the transaction, so that stage and number may come in any order: DISPATCHED needs a tracking number '
'where the store says so.';
revoke execute on function mirror.require_tracking_number() from public;

create function public.update_order_delivery_status(
    order_code text,
    stage public.delivery_stage,
    tracking_number text default null,
    note text default null,
    updated_by text default null
) returns public.order_delivery_status
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    v_code constant text := update_order_delivery_status.order_code;
    v_stage constant public.delivery_stage := update_order_delivery_status.stage;
    v_tracking_number constant text := nullif(trim(update_order_delivery_status.tracking_number), '');
    v_note constant text := nullif(trim(update_order_delivery_status.note), '');
    v_updated_by constant text := coalesce(update_order_delivery_status.updated_by, mirror.current_actor());
    v_found public.order_delivery_status[];
    v_status public.order_delivery_status;
begin
    perform mirror.take_turn(); -- before the row is locked
    v_found := array(
        select s
        from public.order_delivery_status as s
        inner join public.customer_orders_summary as o on o.id = s.order_summary_id
        where s.order_code = v_code and (
            o.deleted_at is null or not exists (
                select from public.customer_orders_summary as live
                where live.store_id = o.store_id and live.order_code = v_code and live.deleted_at is null
            )
        )
        for no key update of s
    );
    if cardinality(v_found) <> 1 then
        raise exception 'There % with the code %.',
            case cardinality(v_found) when 0 then 'is no order' else 'are orders of several stores' end, v_code
        using
            errcode = 'PT404', -- which the Data API answers 404
            hint = 'Take the code from customer_orders_summary.order_code, or edit the row of order_delivery_status.';
    end if;

    perform set_config('mirror.names_itself', 'yes', true);
    update public.order_delivery_status as s
    set
        stage = v_stage,
        tracking_number = coalesce(v_tracking_number, s.tracking_number),
        note = case when s.stage <> v_stage then v_note else coalesce(v_note, s.note) end,
        updated_by = v_updated_by
    where
        s.id = (v_found[1]).id
        and (
            s.stage <> v_stage
            or s.tracking_number is distinct from coalesce(v_tracking_number, s.tracking_number)
            or s.note is distinct from coalesce(v_note, s.note)
        );
    perform set_config('mirror.names_itself', '', true);
    select s.* into strict v_status from public.order_delivery_status as s where s.id = (v_found[1]).id;
    return v_status;
end
$$;

comment on function public.update_order_delivery_status(text, public.delivery_stage, text, text, text) is
'Moves an order on to a stage, with its tracking number and a note, and writes the history. Never backwards: for that there is '
'correct_order_delivery_status. The same call twice changes nothing.';
revoke execute on function public.update_order_delivery_status(text, public.delivery_stage, text, text, text) from public;
grant execute on function public.update_order_delivery_status(text, public.delivery_stage, text, text, text) to service_role;

create function public.correct_order_delivery_status(
    order_code text,
    stage public.delivery_stage,
    note text,
    updated_by text default null
) returns public.order_delivery_status
language plpgsql
set search_path = ''
as $$
declare
    v_status public.order_delivery_status;
begin
    perform set_config('mirror.may_go_back', 'yes', true);
    v_status := public.update_order_delivery_status(
        correct_order_delivery_status.order_code, correct_order_delivery_status.stage, null,
        correct_order_delivery_status.note, correct_order_delivery_status.updated_by
    );
    perform set_config('mirror.may_go_back', '', true);
    return v_status;
end
$$;

comment on function public.correct_order_delivery_status(text, public.delivery_stage, text, text) is
'Sets an order''s stage, backwards too, where it was moved by mistake. The history keeps both.';
revoke execute on function public.correct_order_delivery_status(text, public.delivery_stage, text, text) from public;
grant execute on function public.correct_order_delivery_status(text, public.delivery_stage, text, text) to service_role;
