create table public.customer_order_items (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null,
    order_summary_id uuid not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    sku text,
    product_name text not null,
    variant_name text not null,
    quantity integer not null check (quantity >= 0),
    currency public.currency_code not null,
    unit_price_with_tax public.money_amount not null,
    line_total_with_tax public.money_amount not null,
    patch_enabled boolean not null default false,
    patch_type text,
    print_name text,
    print_number text,
    is_pre_order boolean not null default false,
    custom_fields jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (order_summary_id, store_id, source_id),
    foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade
) with (fillfactor = 85);

comment on table public.customer_order_items is
'The lines of each order. A line that is gone from the order is gone from here; a cancelled line has quantity 0.';
comment on column public.customer_order_items.source_id is 'The engine''s id of the order line.';
comment on column public.customer_order_items.line_total_with_tax is 'After all discounts, those of the whole order shared out.';

create index customer_order_items_store_id on public.customer_order_items (store_id, sku);

create trigger touch_updated_at before update on public.customer_order_items
for each row execute function mirror.touch_updated_at();
