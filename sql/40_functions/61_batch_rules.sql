create function mirror.guard_batch() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_op = 'DELETE' then
        if exists (select from public.order_batch_assignments as a where a.batch_id = old.id) then
            raise exception 'Batch % has orders in it and cannot be deleted.', old.batch_number
            using errcode = 'restrict_violation', hint = 'Move its orders into another batch first, or complete it.';
        elsif exists (select from public.supplier_purchase_lists as l where l.batch_id = old.id) then
            raise exception 'Batch % has purchase lists and cannot be deleted.', old.batch_number
            using errcode = 'restrict_violation', hint = 'It is part of the shop''s history: complete it instead.';
        end if;
        return old;
    end if;

    if tg_op = 'INSERT' then
        -- An upsert of a row that is there comes by here first, with what it read.
        if not exists (
            select from public.import_batches as b
            where b.id = new.id or (b.store_id, b.batch_number) = (new.store_id, new.batch_number)
        ) then
            new.order_count := 0;
            new.is_ready := false;
        end if;
    elsif new.store_id <> old.store_id then
        raise exception 'Batch % stays with its store.', old.batch_number
        using errcode = 'check_violation', hint = 'Open a batch for the other store.';
    elsif new.status < old.status then
        raise exception 'Batch % is % already and cannot go back to %.', old.batch_number, old.status, new.status
        using
            errcode = 'check_violation',
            hint = 'A batch moves forward only. Orders that are not that far can be moved into another batch.';
    elsif new.order_count <> old.order_count and pg_trigger_depth() < 2 then
        raise exception 'order_count is counted by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'It follows the rows of order_batch_assignments.';
    elsif new.is_ready <> old.is_ready then
        raise exception 'is_ready is kept by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'A collecting batch is ready when order_count reaches target_order_count.';
    end if;

    new.is_ready := new.status = 'collecting' and coalesce(new.order_count >= new.target_order_count, false);
    if tg_op = 'INSERT' or new.status > old.status then
        -- A time that an admin has entered stands.
        new.ordered_at := coalesce(new.ordered_at, case new.status when 'orderedFromSupplier' then now() end);
        new.in_transit_at := coalesce(new.in_transit_at, case new.status when 'inTransit' then now() end);
        new.arrived_at := coalesce(new.arrived_at, case new.status when 'arrived' then now() end);
        new.dispatched_at := coalesce(new.dispatched_at, case new.status when 'dispatched' then now() end);
        new.completed_at := coalesce(new.completed_at, case new.status when 'completed' then now() end);
    end if;
    return new;
end
$$;

comment on function mirror.guard_batch() is 'Trigger: the rules of a batch, in words that an admin reads.';
revoke execute on function mirror.guard_batch() from public;

create function mirror.follow_batch() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.is_ready and not old.is_ready then
        perform mirror.open_batch(new.store_id, coalesce(s.batch_target_order_count, new.target_order_count))
        from public.stores as s
        where s.id = new.store_id;
    end if;
    if new.status <> old.status then
        perform mirror.move_batch_orders(array[new.id]);
        if new.status = 'completed' then
            update public.order_batch_assignments
            set is_open = false
            where batch_id = new.id and is_open;
        end if;
    end if;
    return null;
end
$$;

comment on function mirror.follow_batch() is
'Trigger: what follows from a batch''s change. A full one opens the next; a status moves the orders'' stages.';
revoke execute on function mirror.follow_batch() from public;

create function mirror.guard_assignment() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_order public.customer_orders_summary;
    v_batch public.import_batches;
    v_taken_by text;
begin
    if tg_op <> 'INSERT' and not old.is_open then
        select b.* into v_batch from public.import_batches as b where b.id = old.batch_id;
        raise exception 'Batch % is completed: its orders stay in it.', v_batch.batch_number
        using
            errcode = 'restrict_violation',
            hint = 'To buy the order again, put it into an open batch as well: a new row of order_batch_assignments, '
                'or the order''s batch_id.';
    elsif tg_op = 'DELETE' then
        return old;
    elsif tg_op = 'UPDATE' and new.order_summary_id <> old.order_summary_id then
        raise exception 'A row of order_batch_assignments stays with its order.'
        using errcode = 'check_violation', hint = 'Change its batch_id, or delete it and add one for the other order.';
    elsif tg_op = 'UPDATE' and new.is_open <> old.is_open and pg_trigger_depth() < 2 then
        raise exception 'is_open is kept by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'Complete the batch, and its rows close; delete a row to pull its order out.';
    end if;

    select b.* into v_batch from public.import_batches as b where b.id = new.batch_id for no key update;
    select o.* into v_order from public.customer_orders_summary as o where o.id = new.order_summary_id;
    if v_batch.id is null or v_order.id is null then
        return new; -- the foreign keys say it
    elsif v_batch.store_id <> v_order.store_id then
        raise exception 'Order % and batch % belong to different stores.', v_order.order_code, v_batch.batch_number
        using errcode = 'check_violation', hint = 'Choose a batch of the order''s store.';
    elsif v_batch.status = 'completed' and (tg_op = 'INSERT' or new.batch_id <> old.batch_id) then
        raise exception 'Batch % is completed and takes no more orders.', v_batch.batch_number
        using errcode = 'check_violation', hint = 'Choose a batch that is not completed.';
    elsif tg_op = 'INSERT' and (v_order.cancelled_at is not null or v_order.deleted_at is not null) then
        raise exception 'Order % is cancelled and cannot join a batch.', v_order.order_code
        using errcode = 'check_violation', hint = 'Choose an order that is not cancelled.';
    elsif tg_op = 'INSERT' then
        select b.batch_number into v_taken_by
        from public.order_batch_assignments as a
        inner join public.import_batches as b on b.id = a.batch_id
        where a.order_summary_id = new.order_summary_id and a.is_open;
        if found then
            raise exception 'Order % is in batch % already.', v_order.order_code, v_taken_by
            using
                errcode = 'unique_violation',
                hint = 'Change batch_id in its row of order_batch_assignments, or in the order itself, to move it.';
        end if;
    end if;

    new.store_id := v_order.store_id;
    new.vendure_order_id := v_order.vendure_order_id;
    if tg_op = 'INSERT' then
        new.is_open := true;
    end if;
    if tg_op = 'INSERT' or new.batch_id <> old.batch_id then
        new.assigned_by := mirror.current_actor();
    end if;
    return new;
end
$$;

comment on function mirror.guard_assignment() is 'Trigger: the rules of an order in a batch, in words that an admin reads.';
revoke execute on function mirror.guard_assignment() from public;

create function mirror.follow_assignments(p_orders uuid[], p_batches uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    if p_orders is null then
        return;
    end if;
    update public.customer_orders_summary as o
    set batch_id = latest.batch_id, joined_batch_at = coalesce(o.joined_batch_at, now())
    from (
        select k.id, (
            select a.batch_id
            from public.order_batch_assignments as a
            where a.order_summary_id = k.id
            order by a.is_open desc, a.id desc
            limit 1
        ) as batch_id
        from unnest(p_orders) as k (id)
    ) as latest
    where o.id = latest.id and (o.batch_id is distinct from latest.batch_id or o.joined_batch_at is null);
    perform mirror.recount_batches(p_batches);
    perform mirror.move_batch_orders(p_batches, p_orders);
end
$$;

comment on function mirror.follow_assignments(uuid[], uuid[]) is
'What follows from orders joining or leaving batches: the orders'' batch_id, the batches'' counts, the orders'' stages.';
revoke execute on function mirror.follow_assignments(uuid[], uuid[]) from public;
grant execute on function mirror.follow_assignments(uuid[], uuid[]) to service_role;

create function mirror.follow_new_assignments() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.follow_assignments(array_agg(a.order_summary_id), array_agg(distinct a.batch_id)) from after as a;
    return null;
end
$$;

comment on function mirror.follow_new_assignments() is 'Trigger: see mirror.follow_assignments.';
revoke execute on function mirror.follow_new_assignments() from public;

create function mirror.follow_moved_assignments() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.follow_assignments(
        array_agg(distinct a.order_summary_id), array_agg(distinct b.batch_id) || array_agg(distinct a.batch_id)
    )
    from after as a
    full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
    where a.batch_id is distinct from b.batch_id;
    return null;
end
$$;

comment on function mirror.follow_moved_assignments() is 'Trigger: see mirror.follow_assignments.';
revoke execute on function mirror.follow_moved_assignments() from public;

create function mirror.follow_ended_assignments() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.follow_assignments(array_agg(b.order_summary_id), array_agg(distinct b.batch_id)) from before as b;
    return null;
end
$$;

comment on function mirror.follow_ended_assignments() is 'Trigger: see mirror.follow_assignments.';
revoke execute on function mirror.follow_ended_assignments() from public;
