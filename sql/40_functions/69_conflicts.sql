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
