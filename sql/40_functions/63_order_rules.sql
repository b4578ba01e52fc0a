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
begin
    if exists (select from after as a where a.order_code is not null) then
        perform mirror.begin_delivery(array_agg(a.id)) from after as a where a.order_code is not null;
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
    v_orders uuid[];
    v_customers uuid[];
begin
    -- Placed only now: the row was a tombstone.
    select array_agg(a.id) into v_orders
    from after as a
    inner join before as b using (id)
    where a.order_code is not null and b.order_code is null;
    if v_orders is not null then
        perform mirror.begin_delivery(v_orders);
    end if;

    select array_agg(distinct c.id) into v_customers
    from after as a
    inner join before as b using (id)
    cross join lateral (values (a.customer_id), (b.customer_id)) as c (id)
    where
        c.id is not null
        and (a.customer_id, a.order_code, a.currency, a.total_with_tax, a.total_refunded, a.order_date,
            a.cancelled_at is null, a.deleted_at is null)
        is distinct from (b.customer_id, b.order_code, b.currency, b.total_with_tax, b.total_refunded, b.order_date,
            b.cancelled_at is null, b.deleted_at is null);
    if v_customers is not null then
        perform mirror.refresh_customer_statistics(v_customers);
    end if;

    select array_agg(a.id) into v_orders
    from after as a
    inner join before as b using (id)
    where
        (a.cancelled_at is null and a.deleted_at is null)
        is distinct from (b.cancelled_at is null and b.deleted_at is null);
    if v_orders is not null then
        perform mirror.follow_cancellations(v_orders);
    end if;

    if exists (
        select from after as a
        inner join before as b using (id)
        where (a.delivery_stage, a.tracking_number) is distinct from (b.delivery_stage, b.tracking_number)
    ) then
        update public.order_delivery_status as s
        set stage = a.delivery_stage, tracking_number = a.tracking_number
        from after as a
        where
            s.order_summary_id = a.id
            and (s.stage, s.tracking_number) is distinct from (a.delivery_stage, a.tracking_number);
    end if;

    if exists (
        select from after as a
        inner join before as b using (id)
        where a.batch_id is distinct from b.batch_id
    ) then
        perform mirror.move_to_batch(a.id, a.batch_id)
        from after as a
        inner join before as b using (id)
        where a.batch_id is distinct from b.batch_id;
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
begin
    update public.order_delivery_status as s
    set is_cancelled = not s.is_cancelled
    from public.customer_orders_summary as o
    where
        o.id = any(p_orders) and s.order_summary_id = o.id
        and s.is_cancelled <> (o.cancelled_at is not null or o.deleted_at is not null);
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
'Brings deliveries and batches up to the cancelling, deleting or reviving of these orders.';
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
