create table public.order_delivery_status (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid not null unique references public.customer_orders_summary (id) on delete cascade,
    order_code text not null,
    stage public.delivery_stage not null default 'ORDER_CONFIRMED',
    tracking_number text,
    carrier text,
    updated_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, order_code)
) with (fillfactor = 85);

comment on table public.order_delivery_status is 'Where each order is now: one of five stages.';
comment on column public.order_delivery_status.tracking_number is
'The courier''s number; customers see it from DISPATCHED on.';
comment on column public.order_delivery_status.updated_by is 'Who set it last: the engine''s name, or a person''s.';

create index order_delivery_status_stage on public.order_delivery_status (store_id, stage);

create trigger touch_updated_at before update on public.order_delivery_status
for each row execute function mirror.touch_updated_at();
