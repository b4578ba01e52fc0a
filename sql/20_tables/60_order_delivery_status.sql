create table public.order_delivery_status (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null,
    order_summary_id uuid not null,
    order_code text not null,
    stage public.delivery_stage not null default 'ORDER_CONFIRMED',
    tracking_number text,
    carrier text,
    updated_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    note text,
    eta date,
    is_cancelled boolean not null default false,
    confirmed_at timestamptz not null default now(),
    sourcing_at timestamptz,
    arrived_at timestamptz,
    dispatched_at timestamptz,
    delivered_at timestamptz,
    stage_since timestamptz generated always as (
        case stage
            when 'ORDER_CONFIRMED' then confirmed_at
            when 'SOURCING' then sourcing_at
            when 'ARRIVED' then arrived_at
            when 'DISPATCHED' then dispatched_at
            when 'DELIVERED' then delivered_at
        end
    ) stored,
    unique (order_summary_id, store_id),
    foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade
) with (fillfactor = 85);

comment on table public.order_delivery_status is 'Where each order is now: one of five stages.';
comment on column public.order_delivery_status.tracking_number is
'The courier''s number; customers see it from DISPATCHED on.';
comment on column public.order_delivery_status.updated_by is 'Who set it last: the engine''s name, or a person''s.';

comment on column public.order_delivery_status.note is 'A word on the latest change; it goes into the history.';
comment on column public.order_delivery_status.eta is 'When the customer may expect the parcel.';
comment on column public.order_delivery_status.is_cancelled is
'The order is cancelled or deleted: its delivery no longer moves. Kept by the mirror.';
comment on column public.order_delivery_status.confirmed_at is
'When the stage was reached last; kept by the mirror, like those that follow.';
comment on column public.order_delivery_status.stage_since is 'Since when the order is at its stage.';

create index order_delivery_status_open on public.order_delivery_status (store_id, stage, stage_since)
where stage <> 'DELIVERED' and not is_cancelled;
create index order_delivery_status_order_code on public.order_delivery_status (store_id, order_code);
create index order_delivery_status_stage on public.order_delivery_status (store_id, stage);

create trigger touch_updated_at before update on public.order_delivery_status
for each row execute function mirror.touch_updated_at();
