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
    p_source public.commerce_engine,
    p_orders uuid[],
    p_items mirror.item_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.customer_order_items as i (
        store_id, order_summary_id, source_id, source_version, sku, product_name, variant_name, quantity, currency,
        unit_price_with_tax, line_total_with_tax, patch_enabled, patch_type, print_name, print_number,
        is_pre_order, custom_fields
    )
    select
        p_store_id, o.id, r.source_id, o.source_version, r.sku, r.product_name, r.variant_name, r.quantity,
        o.currency, r.unit_price_with_tax, r.line_total_with_tax, coalesce(r.patch_enabled, false), r.patch_type,
        r.print_name, r.print_number, coalesce(r.is_pre_order, false), coalesce(r.custom_fields, '{}')
    from unnest(
        p_items.order_source_id, p_items.source_id, p_items.sku, p_items.product_name, p_items.variant_name,
        p_items.quantity, p_items.unit_price_with_tax, p_items.line_total_with_tax, p_items.patch_enabled,
        p_items.patch_type, p_items.print_name, p_items.print_number, p_items.is_pre_order,
        p_items.custom_fields
    ) as r (
        order_source_id, source_id, sku, product_name, variant_name, quantity, unit_price_with_tax,
        line_total_with_tax, patch_enabled, patch_type, print_name, print_number, is_pre_order, custom_fields
    )
    cross join lateral (
        select k.id, k.source_version, k.currency
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each: a planner that does not know the table yet would read all orders of the store
    ) as o
    where (o.id in (select w.id from unnest(p_orders) as w (id))) is true -- hashed; `= any` compares with each
    on conflict (order_summary_id, source_id) do update set
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

    delete from public.customer_order_items as i
    using public.customer_orders_summary as o
    where o.id = any(p_orders) and i.order_summary_id = o.id and i.source_version < o.source_version;
end
$$;

comment on function mirror.replace_order_items(uuid, public.commerce_engine, uuid[], mirror.item_columns) is
'Makes these the lines of the orders p_orders, at the orders'' versions: part of upsert_orders.';
revoke execute on function mirror.replace_order_items(uuid, public.commerce_engine, uuid[], mirror.item_columns)
from public;
grant execute on function mirror.replace_order_items(uuid, public.commerce_engine, uuid[], mirror.item_columns)
to service_role;
