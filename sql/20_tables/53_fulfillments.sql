create table public.fulfillments (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null,
    order_summary_id uuid not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    state text not null,
    method text,
    tracking_number text,
    lines jsonb not null default '[]',
    fulfilled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (order_summary_id, store_id, source_id),
    foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade
) with (fillfactor = 85);

comment on table public.fulfillments is
'The shop''s own fulfilments of each order: what it has packed, and sent how. Customers follow order_delivery_status instead.';
comment on column public.fulfillments.source_id is 'The engine''s id of the fulfilment.';
comment on column public.fulfillments.state is 'The engine''s own state: Pending, Shipped, Delivered, Cancelled, …';
comment on column public.fulfillments.lines is
'What is in it: [{"source_id": the order line''s, as in customer_order_items, "quantity": 1}].';
comment on column public.fulfillments.fulfilled_at is 'When it was made.';

create index fulfillments_store_id on public.fulfillments (store_id, state);

create trigger touch_updated_at before update on public.fulfillments
for each row execute function mirror.touch_updated_at();
