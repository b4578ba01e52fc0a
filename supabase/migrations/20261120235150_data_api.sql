-- What the Data API answers: 404 where there is no such thing, 403 where a view is edited, and an upsert of what was read.

create function mirror.refuse_view_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception '% is a view and is not edited.', tg_table_name
    using errcode = 'restrict_violation', hint = tg_argv[0];
end
$$;

comment on function mirror.refuse_view_change() is
'Trigger: a view that joins is not edited. Without it Postgres says so before it looks whether somebody may try, and the Data API '
'answers 500. Its argument is what to do instead.';
revoke execute on function mirror.refuse_view_change() from public;

create trigger refuse instead of insert or update or delete on public.order_tracking
for each row execute function mirror.refuse_view_change('Edit stage and tracking_number in order_delivery_status.');
create trigger refuse instead of insert or update or delete on public.orders_needing_attention
for each row execute function mirror.refuse_view_change('Do what its reason asks for, and the order goes from it.');
create trigger refuse instead of insert or update or delete on public.customer_subscriptions
for each row execute function mirror.refuse_view_change('It is changed at the payment provider.');

create or replace function mirror.guard_batch() returns trigger
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

create or replace function public.get_batch_statistics(batch_uuid uuid)
returns table (
    batch_number text,
    status public.batch_status,
    total_orders integer,
    total_items bigint,
    revenue jsonb,
    orders_by_stage jsonb,
    completion_percentage numeric,
    target_order_count integer,
    progress_percentage numeric,
    age_days numeric,
    unpaid_orders bigint,
    cancelled_orders bigint
)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    with members as materialized (
        select
            o.id, o.currency, o.delivery_stage,
            o.total_with_tax - greatest(
                o.total_refunded + o.refunded_outside - greatest(o.total_paid - o.total_with_tax, 0), 0
            ) as spent, -- see mirror.refresh_customer_statistics
            o.total_paid < o.total_with_tax as is_unpaid,
            o.cancelled_at is null and o.deleted_at is null as is_active
        from public.order_batch_assignments as a
        inner join public.customer_orders_summary as o on o.id = a.order_summary_id
        where a.batch_id = batch_uuid
    ), totals as (
        select
            count(*) filter (where m.is_active) as orders,
            count(*) filter (where m.is_active and m.delivery_stage = 'DELIVERED') as delivered,
            count(*) filter (where m.is_active and m.is_unpaid) as unpaid,
            count(*) filter (where not m.is_active) as cancelled
        from members as m
    )
    select
        b.batch_number, b.status, t.orders::integer,
        coalesce((
            select sum(i.quantity)
            from members as m
            inner join public.customer_order_items as i on i.order_summary_id = m.id
            where m.is_active
        ), 0)::bigint,
        coalesce((
            select jsonb_object_agg(r.currency, r.amount)
            from (
                select m.currency, sum(m.spent) as amount
                from members as m
                where m.is_active
                group by m.currency
            ) as r
        ), '{}'),
        (
            select jsonb_object_agg(s.stage, coalesce(c.orders, 0))
            from unnest(enum_range(null::public.delivery_stage)) as s (stage)
            left join (
                select m.delivery_stage, count(*) as orders
                from members as m
                where m.is_active
                group by m.delivery_stage
            ) as c on c.delivery_stage = s.stage
        ),
        round(coalesce(100.0 * t.delivered / nullif(t.orders, 0), 0), 1),
        b.target_order_count,
        round(100.0 * t.orders / b.target_order_count, 1),
        round(extract(epoch from coalesce(b.completed_at, now()) - b.created_at) / 86400, 1),
        t.unpaid, t.cancelled
    from public.import_batches as b
    cross join totals as t
    where b.id = batch_uuid;
    if not found then
        raise exception 'There is no batch with the id %.', batch_uuid
        using
            errcode = 'PT404', -- which the Data API answers 404
            hint = 'Take it from the column id of import_batches.';
    end if;
end
$$;

create or replace function public.update_customer_statistics(customer_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from public.customers as c where c.id = update_customer_statistics.customer_id) then
        raise exception 'There is no customer with the id %.', update_customer_statistics.customer_id
        using
            errcode = 'PT404', -- which the Data API answers 404
            hint = 'Take it from the column id of customers.';
    end if;
    perform mirror.refresh_customer_statistics(array[update_customer_statistics.customer_id]);
end
$$;

create or replace function public.export_supplier_purchase_list(batch_uuid uuid) returns setof public.supplier_purchase_lists
language plpgsql
set search_path = ''
as $$
declare
    v_store_id uuid;
    v_export integer;
begin
    select b.store_id into v_store_id from public.import_batches as b where b.id = batch_uuid for no key update;
    if not found then
        raise exception 'There is no batch with the id %.', batch_uuid
        using
            errcode = 'PT404', -- which the Data API answers 404
            hint = 'Take it from the column id of import_batches.';
    end if;
    select coalesce(max(l.export_number), 0) + 1 into v_export
    from public.supplier_purchase_lists as l
    where l.batch_id = batch_uuid;

    return query
    with wanted as (
        select
            i.sku, (array_agg(i.product_name order by i.id desc))[1] as product_name,
            (array_agg(i.variant_name order by i.id desc))[1] as variant_name,
            i.patch_enabled, i.patch_type, i.print_name, i.print_number,
            sum(i.quantity)::integer as quantity, array_agg(i.id order by i.id) as items
        from public.order_batch_assignments as a
        inner join public.customer_orders_summary as o on o.id = a.order_summary_id
        inner join public.customer_order_items as i on i.order_summary_id = o.id
        where a.batch_id = batch_uuid and o.cancelled_at is null and o.deleted_at is null and i.quantity > 0
        -- What has no SKU is told apart by its names.
        group by
            i.sku, i.patch_enabled, i.patch_type, i.print_name, i.print_number,
            case when i.sku is null then row(i.product_name, i.variant_name)::text end
    ), listed as (
        select *
        from public.supplier_purchase_lists as l
        where l.batch_id = batch_uuid and l.export_number = v_export - 1 and l.quantity > 0
    )
    insert into public.supplier_purchase_lists (
        store_id, batch_id, export_number, variant_sku, product_name, variant_name, patch_enabled, patch_type,
        print_name, print_number, quantity, previous_quantity, change, source_item_ids
    )
    select
        v_store_id, batch_uuid, v_export,
        coalesce(w.sku, l.variant_sku), coalesce(w.product_name, l.product_name),
        coalesce(w.variant_name, l.variant_name), coalesce(w.patch_enabled, l.patch_enabled),
        coalesce(w.patch_type, l.patch_type), coalesce(w.print_name, l.print_name),
        coalesce(w.print_number, l.print_number), coalesce(w.quantity, 0), coalesce(l.quantity, 0),
        case
            when l.id is null then 'new'
            when w.quantity is null then 'removed'
            when w.quantity <> l.quantity then 'changed'
            else 'unchanged'
        end::public.purchase_change,
        coalesce(w.items, '{}')
    from wanted as w
    full join listed as l
        on row(
            w.sku, case when w.sku is null then row(w.product_name, w.variant_name)::text end,
            w.patch_enabled, w.patch_type, w.print_name, w.print_number
        )::text
        = row(
            l.variant_sku, case when l.variant_sku is null then row(l.product_name, l.variant_name)::text end,
            l.patch_enabled, l.patch_type, l.print_name, l.print_number
        )::text
    order by 5, 6, 4
    returning *;
end
$$;

create or replace function public.update_order_delivery_status(
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
