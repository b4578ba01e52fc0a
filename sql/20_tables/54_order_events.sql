create table public.order_events (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null,
    order_summary_id uuid not null,
    source_id text not null check (source_id <> ''),
    from_state text,
    to_state text not null,
    changed_at timestamptz not null,
    created_at timestamptz not null default now(),
    unique (order_summary_id, store_id, source_id),
    foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade
);

comment on table public.order_events is
'Every change of an order''s own state, as the shop''s history of the order has it. That of the delivery is in '
'order_delivery_status_events.';
comment on column public.order_events.source_id is 'The engine''s id of the entry.';
comment on column public.order_events.from_state is 'The engine''s own state before: AddingItems, PaymentAuthorized, …';
comment on column public.order_events.to_state is 'The engine''s own state from then on.';
comment on column public.order_events.changed_at is 'When it changed, by the engine''s clock.';
