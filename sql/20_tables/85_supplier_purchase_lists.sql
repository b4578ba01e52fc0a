create table public.supplier_purchase_lists (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    batch_id uuid not null references public.import_batches (id),
    export_number integer not null check (export_number > 0),
    product_sku text,
    variant_sku text,
    product_name text not null,
    variant_name text not null,
    patch_enabled boolean not null,
    patch_type text,
    print_name text,
    print_number text,
    quantity integer not null check (quantity >= 0),
    previous_quantity integer not null check (previous_quantity >= 0),
    change public.purchase_change not null,
    source_item_ids uuid[] not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique nulls not distinct (
        batch_id, export_number, variant_sku, product_name, variant_name, patch_enabled, patch_type, print_name, print_number
    )
);

comment on table public.supplier_purchase_lists is
'What to buy for a batch: a row for each article with its patch and print, by export. Made by export_supplier_purchase_list.';
comment on column public.supplier_purchase_lists.export_number is 'Counts the exports of the batch: 1, 2, …';
comment on column public.supplier_purchase_lists.product_sku is
'The product''s own number, where the engine has one; Vendure has only variants'' SKUs.';
comment on column public.supplier_purchase_lists.quantity is
'To be bought in all. 0: was on the list before, and is not wanted any more.';
comment on column public.supplier_purchase_lists.previous_quantity is 'On the export before.';
comment on column public.supplier_purchase_lists.source_item_ids is
'The order items (customer_order_items.id) that make up the row.';

create index supplier_purchase_lists_store_id on public.supplier_purchase_lists (store_id);

create trigger touch_updated_at before update on public.supplier_purchase_lists
for each row execute function mirror.touch_updated_at();
