create function public.export_supplier_purchase_list(batch_uuid uuid) returns setof public.supplier_purchase_lists
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

comment on function public.export_supplier_purchase_list(uuid) is
'Writes what to buy for a batch into supplier_purchase_lists, as its next export, and returns it: a row for each article with '
'its patch and print, with the order items it came from and what changed since the export before.';
revoke execute on function public.export_supplier_purchase_list(uuid) from public;
grant execute on function public.export_supplier_purchase_list(uuid) to service_role;
