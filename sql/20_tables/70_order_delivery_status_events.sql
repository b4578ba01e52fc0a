create table public.order_delivery_status_events (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null,
    order_summary_id uuid not null,
    order_code text not null,
    from_stage public.delivery_stage,
    stage public.delivery_stage not null,
    tracking_number text,
    updated_by text not null,
    source_id text not null,
    updated_at timestamptz not null,
    created_at timestamptz not null default now(),
    note text,
    actor text,
    unique (order_summary_id, store_id, source_id),
    foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade
);

comment on table public.order_delivery_status_events is 'Every change of a delivery''s stage or tracking number.';
comment on column public.order_delivery_status_events.from_stage is 'Empty for the first event of an order.';
comment on column public.order_delivery_status_events.updated_at is 'When the stage changed, by the clock of whoever changed it.';
comment on column public.order_delivery_status_events.source_id is
'The engine''s id of the change; "placed" for the placing; "read <time>" where the engine keeps no history.';

comment on column public.order_delivery_status_events.actor is
'How the change came: engine:vendure, studio, service, api:<user>, or a database role.';

create index order_delivery_status_events_updated_at
on public.order_delivery_status_events (store_id, updated_at);
