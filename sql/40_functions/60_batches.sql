create function mirror.batch_stage(p_status public.batch_status) returns public.delivery_stage
language sql immutable parallel safe
set search_path = ''
as $$
    select (
        case p_status
            when 'orderedFromSupplier' then 'SOURCING'
            when 'inTransit' then 'SOURCING'
            when 'arrived' then 'ARRIVED'
            when 'dispatched' then 'DISPATCHED'
            when 'completed' then 'DELIVERED'
            else 'ORDER_CONFIRMED'
        end
    )::public.delivery_stage
$$;

comment on function mirror.batch_stage(public.batch_status) is
'The stage that the orders of a batch have at least, by the batch''s status.';
revoke execute on function mirror.batch_stage(public.batch_status) from public;
grant execute on function mirror.batch_stage(public.batch_status) to service_role;

create function mirror.move_batch_orders(p_batches uuid[], p_orders uuid[] default null) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform set_config('mirror.names_itself', 'yes', true);
    update public.order_delivery_status as s
    set stage = mirror.batch_stage(b.status), note = null, updated_by = 'batch ' || b.batch_number
    from public.order_batch_assignments as a
    inner join public.import_batches as b on b.id = a.batch_id
    where
        a.batch_id = any(p_batches) and a.order_summary_id = s.order_summary_id
        and (p_orders is null or a.order_summary_id = any(p_orders))
        and not s.is_cancelled and s.stage < mirror.batch_stage(b.status);
    perform set_config('mirror.names_itself', '', true);
end
$$;

comment on function mirror.move_batch_orders(uuid[], uuid[]) is
'Moves the orders of these batches (only p_orders, if given) on to the stage of their batch: never backwards, and never a '
'cancelled order.';
revoke execute on function mirror.move_batch_orders(uuid[], uuid[]) from public;
grant execute on function mirror.move_batch_orders(uuid[], uuid[]) to service_role;

create function mirror.recount_batches(p_batches uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Locked first, counted in the next statement: whoever counts last has seen all that was committed.
    perform
    from public.import_batches as b
    where b.id = any(p_batches)
    order by b.id
    for no key update;

    update public.import_batches as b
    set order_count = counted.orders
    from (
        select k.id, count(o.id) as orders
        from public.import_batches as k
        left join public.order_batch_assignments as a on a.batch_id = k.id
        left join public.customer_orders_summary as o
            on o.id = a.order_summary_id and o.cancelled_at is null and o.deleted_at is null
        where k.id = any(p_batches)
        group by k.id
    ) as counted
    where b.id = counted.id and b.order_count <> counted.orders;
end
$$;

comment on function mirror.recount_batches(uuid[]) is 'Counts the orders of these batches anew, without cancelled ones.';
revoke execute on function mirror.recount_batches(uuid[]) from public;
grant execute on function mirror.recount_batches(uuid[]) to service_role;

create function mirror.open_batch(p_store_id uuid, p_target integer) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.lock_batches();
    if not exists (
        select from public.import_batches as b
        where b.store_id = p_store_id and b.status = 'collecting' and not b.is_ready
    ) then
        insert into public.import_batches (store_id, batch_number, target_order_count)
        values (p_store_id, mirror.next_batch_number(p_store_id), p_target);
    end if;
end
$$;

comment on function mirror.open_batch(uuid, integer) is 'Opens a collecting batch for a store that has none.';
revoke execute on function mirror.open_batch(uuid, integer) from public;
grant execute on function mirror.open_batch(uuid, integer) to service_role;

create function mirror.join_open_batch(p_store_id uuid, p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_waiting uuid[] := p_orders;
    v_batch public.import_batches;
    v_room integer;
begin
    perform mirror.lock_batches();
    while cardinality(v_waiting) > 0 loop
        select b.* into v_batch
        from public.import_batches as b
        where b.store_id = p_store_id and b.status = 'collecting' and not b.is_ready
        order by b.id
        limit 1
        for no key update;
        if not found then
            perform mirror.open_batch(p_store_id, s.batch_target_order_count)
            from public.stores as s
            where s.id = p_store_id;
            continue;
        end if;

        v_room := greatest(coalesce(v_batch.target_order_count - v_batch.order_count, cardinality(v_waiting)), 1);
        insert into public.order_batch_assignments (store_id, order_summary_id, batch_id)
        select p_store_id, w.id, v_batch.id
        from unnest(v_waiting[:v_room]) as w (id);
        v_waiting := v_waiting[v_room + 1:];
    end loop;
end
$$;

comment on function mirror.join_open_batch(uuid, uuid[]) is
'Puts orders into the store''s open batch, the next one when it is full, a new one when there is none.';
revoke execute on function mirror.join_open_batch(uuid, uuid[]) from public;
grant execute on function mirror.join_open_batch(uuid, uuid[]) to service_role;

create function mirror.batch_pre_orders(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_store_id uuid;
    v_waiting uuid[];
begin
    for v_store_id, v_waiting in
        select o.store_id, array_agg(o.id order by o.order_date, o.id)
        from (
            select p.*
            from public.customer_orders_summary as p
            where p.id = any(p_orders)
            offset 0 -- by their ids and nothing else, see mirror.refresh_customer_statistics
        ) as o
        inner join public.stores as s on s.id = o.store_id
        where
            o.order_code is not null and o.joined_batch_at is null
            and o.cancelled_at is null and o.deleted_at is null and o.delivery_stage = 'ORDER_CONFIRMED'
            and (
                s.batches_all_orders or exists (
                    select from public.customer_order_items as i
                    where i.order_summary_id = o.id and i.is_pre_order and i.quantity > 0
                )
            )
        group by o.store_id
    loop
        perform mirror.join_open_batch(v_store_id, v_waiting);
    end loop;
end
$$;

comment on function mirror.batch_pre_orders(uuid[]) is
'Puts those of these orders into a batch that wait for one: pre-orders that have never been in a batch, and that are still at '
'ORDER_CONFIRMED: an order from before the mirror that is on its way already was bought without a batch.';
revoke execute on function mirror.batch_pre_orders(uuid[]) from public;
grant execute on function mirror.batch_pre_orders(uuid[]) to service_role;
