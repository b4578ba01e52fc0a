create type mirror.item_columns as (
    order_source_id text [],
    source_id text [],
    sku text [],
    product_name text [],
    variant_name text [],
    quantity integer [],
    unit_price_with_tax numeric [],
    line_total_with_tax numeric [],
    patch_enabled boolean [],
    patch_type text [],
    print_name text [],
    print_number text [],
    is_pre_order boolean [],
    custom_fields jsonb []
);

create function mirror.replace_order_items(
    p_store_id uuid,
    p_written mirror.written_orders,
    p_items mirror.item_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_known constant uuid[] := array(
        select w.id from unnest(p_written.id, p_written.is_new) as w (id, is_new) where not w.is_new
    );
begin
    insert into public.customer_order_items as i (
        id, store_id, order_summary_id, source_id, source_version, sku, product_name, variant_name, quantity, currency,
        unit_price_with_tax, line_total_with_tax, patch_enabled, patch_type, print_name, print_number,
        is_pre_order, custom_fields
    )
    select
        l.id, p_store_id, l.order_id, l.source_id, l.source_version, l.sku, l.product_name, l.variant_name, l.quantity,
        l.currency, l.unit_price_with_tax, l.line_total_with_tax, coalesce(l.patch_enabled, false), l.patch_type,
        l.print_name, l.print_number, coalesce(l.is_pre_order, false), coalesce(l.custom_fields, '{}')
    from (
        select r.*, w.id as order_id, w.source_version, w.currency
        from unnest(
            p_items.order_source_id, p_items.source_id, p_items.sku, p_items.product_name, p_items.variant_name,
            p_items.quantity, p_items.unit_price_with_tax, p_items.line_total_with_tax, p_items.patch_enabled,
            p_items.patch_type, p_items.print_name, p_items.print_number, p_items.is_pre_order,
            p_items.custom_fields, mirror.uuid_v7s(cardinality(p_items.source_id))
        ) as r (
            order_source_id, source_id, sku, product_name, variant_name, quantity, unit_price_with_tax,
            line_total_with_tax, patch_enabled, patch_type, print_name, print_number, is_pre_order, custom_fields, id
        )
        full join unnest(p_written.id, p_written.source_id, p_written.source_version, p_written.currency)
            as w (id, order_source_id, source_version, currency)
            on w.order_source_id = r.order_source_id
        offset 0 -- a full join is hashed, whatever the planner knows, as long as it stays one
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, store_id, source_id) do update set
        source_version = excluded.source_version,
        sku = excluded.sku,
        product_name = excluded.product_name,
        variant_name = excluded.variant_name,
        quantity = excluded.quantity,
        currency = excluded.currency,
        unit_price_with_tax = excluded.unit_price_with_tax,
        line_total_with_tax = excluded.line_total_with_tax,
        patch_enabled = excluded.patch_enabled,
        patch_type = excluded.patch_type,
        print_name = excluded.print_name,
        print_number = excluded.print_number,
        is_pre_order = excluded.is_pre_order,
        custom_fields = excluded.custom_fields
    where i.source_version < excluded.source_version;

    if cardinality(v_known) > 0 then
        delete from public.customer_order_items as i
        using public.customer_orders_summary as o
        where o.id = any(v_known) and i.order_summary_id = o.id and i.source_version < o.source_version;
    end if;
end
$$;

comment on function mirror.replace_order_items(uuid, mirror.written_orders, mirror.item_columns) is
'Makes these the lines of the orders p_written, at the orders'' versions: part of upsert_orders.';
revoke execute on function mirror.replace_order_items(uuid, mirror.written_orders, mirror.item_columns) from public;
grant execute on function mirror.replace_order_items(uuid, mirror.written_orders, mirror.item_columns) to service_role;
