create function mirror.guard_order() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from public.order_batch_assignments as a where a.order_summary_id = old.id)
    and not exists (select from public.order_delivery_status_events as e where e.order_summary_id = old.id) then
        return old;
    end if;
    raise exception 'Order % has a history and cannot be deleted.', old.order_code
    using errcode = 'restrict_violation', hint = 'Cancel it in the shop: the mirror follows.';
end
$$;

comment on function mirror.guard_order() is 'Trigger: an order that has a history is not deleted.';
revoke execute on function mirror.guard_order() from public;

create function mirror.follow_new_orders() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_placed constant integer := (select count(*) from after as a where a.order_code is not null);
    v_ids uuid[];
begin
    if v_placed > 0 then
        -- As mirror.begin_delivery, but nobody can have begun it: the orders are only just there.
        v_ids := mirror.uuid_v7s(v_placed);
        insert into public.order_delivery_status (
            id, store_id, order_summary_id, order_code, stage, tracking_number, updated_by, is_cancelled, confirmed_at
        )
        select
            v_ids[row_number() over ()], a.store_id, a.id, a.order_code, a.delivery_stage, a.tracking_number, a.source::text,
            a.cancelled_at is not null or a.deleted_at is not null, a.order_date
        from after as a
        where a.order_code is not null;

        v_ids := mirror.uuid_v7s(v_placed);
        insert into public.order_delivery_status_events (
            id, store_id, order_summary_id, order_code, stage, updated_by, actor, source_id, updated_at
        )
        select
            v_ids[row_number() over ()], a.store_id, a.id, a.order_code, 'ORDER_CONFIRMED', a.source::text, (select mirror.current_actor()), 'placed',
            a.order_date
        from after as a
        where a.order_code is not null;

        perform mirror.refresh_customer_statistics(array_agg(distinct a.customer_id))
        from after as a
        where a.customer_id is not null;
    end if;
    return null;
end
$$;

comment on function mirror.follow_new_orders() is
'Trigger: a placed order gets its delivery status, and counts for its customer.';
revoke execute on function mirror.follow_new_orders() from public;

create function mirror.follow_changed_orders() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_placed uuid[];
    v_customers uuid[];
    v_ended uuid[];
    v_moved uuid[];
    v_rebatched uuid[];
begin
    -- A full join, though the rows are the same on both sides: only then is it hashed. A plan that was made when one order changed
    -- would compare each row with each when five hundred do.
    select
        array_agg(a.id) filter (where a.order_code is not null and b.order_code is null),
        array_agg(array[a.customer_id, b.customer_id]) filter (
            where (
                a.customer_id, a.order_code, a.currency, a.total_with_tax, a.total_paid, a.total_refunded + a.refunded_outside,
                a.order_date, a.cancelled_at is null, a.deleted_at is null
            ) is distinct from (
                b.customer_id, b.order_code, b.currency, b.total_with_tax, b.total_paid, b.total_refunded + b.refunded_outside,
                b.order_date, b.cancelled_at is null, b.deleted_at is null
            )
        ),
        array_agg(a.id) filter (
            where (a.cancelled_at is null and a.deleted_at is null)
            is distinct from (b.cancelled_at is null and b.deleted_at is null)
        ),
        array_agg(a.id) filter (
            where (a.delivery_stage, a.tracking_number) is distinct from (b.delivery_stage, b.tracking_number)
        ),
        array_agg(a.id) filter (where a.batch_id is distinct from b.batch_id)
    into v_placed, v_customers, v_ended, v_moved, v_rebatched
    from after as a
    full join before as b using (id);

    if v_placed is not null then -- the row was a tombstone
        perform mirror.begin_delivery(v_placed);
    end if;
    if v_customers is not null then
        perform mirror.refresh_customer_statistics(v_customers);
    end if;
    if v_ended is not null then
        perform mirror.follow_cancellations(v_ended);
    end if;
    if v_moved is not null then
        update public.order_delivery_status as s
        set stage = a.delivery_stage, tracking_number = a.tracking_number
        from after as a
        where
            a.id = any(v_moved) and s.order_summary_id = a.id
            and (s.stage, s.tracking_number) is distinct from (a.delivery_stage, a.tracking_number);
    end if;
    if v_rebatched is not null then
        perform mirror.move_to_batch(a.id, a.batch_id) from after as a where a.id = any(v_rebatched);
    end if;
    return null;
end
$$;

comment on function mirror.follow_changed_orders() is
'Trigger: what follows from a change of orders, for their customers, deliveries and batches.';
revoke execute on function mirror.follow_changed_orders() from public;

create function mirror.follow_cancellations(p_orders uuid[]) returns void
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
revoke execute on function mirror.follow_cancellations(uuid[]) from public;
grant execute on function mirror.follow_cancellations(uuid[]) to service_role;

create function mirror.move_to_batch(p_order uuid, p_batch uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_open public.order_batch_assignments;
begin
    select a.* into v_open from public.order_batch_assignments as a where a.order_summary_id = p_order and a.is_open;
    if v_open.batch_id is not distinct from p_batch then
        if p_batch is null then
            -- The order was in completed batches only: to take it out of them is refused there.
            delete from public.order_batch_assignments where order_summary_id = p_order;
        end if;
        return;
    elsif p_batch is null then
        delete from public.order_batch_assignments where id = v_open.id;
    elsif v_open.id is not null then
        update public.order_batch_assignments set batch_id = p_batch where id = v_open.id;
    elsif not exists (
        select from public.order_batch_assignments as a where a.order_summary_id = p_order and a.batch_id = p_batch
    ) then
        insert into public.order_batch_assignments (order_summary_id, batch_id) values (p_order, p_batch);
    end if;
end
$$;

comment on function mirror.move_to_batch(uuid, uuid) is
'Puts an order into a batch, another batch, or none: what choosing a batch in the order''s row means.';
revoke execute on function mirror.move_to_batch(uuid, uuid) from public;
grant execute on function mirror.move_to_batch(uuid, uuid) to service_role;
