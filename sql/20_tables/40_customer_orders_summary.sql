create table public.customer_orders_summary (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    customer_id uuid references public.customers (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    vendure_order_id text generated always as (case when source = 'vendure' then source_id end) stored,
    order_code text,
    order_state text,
    order_date timestamptz,
    delivery_stage public.delivery_stage not null default 'ORDER_CONFIRMED',
    tracking_number text,
    payment_method text,
    currency public.currency_code,
    sub_total public.money_amount,
    shipping public.money_amount,
    tax public.money_amount,
    discount public.money_amount,
    total public.money_amount,
    total_with_tax public.money_amount,
    total_paid public.money_amount,
    total_refunded public.money_amount,
    coupon_codes text[] not null default '{}',
    shipping_method text,
    shipping_address jsonb,
    billing_address jsonb,
    contact_name text,
    contact_phone public.phone_digits,
    contact_email public.email_address,
    custom_fields jsonb not null default '{}',
    cancelled_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    batch_id uuid references public.import_batches (id),
    joined_batch_at timestamptz,
    source_delivery_stage public.delivery_stage,
    source_tracking_number text,
    source_hash text,
    refunded_outside public.money_amount not null default 0,
    unique (store_id, source, source_id),
    unique (id, store_id), -- for its parts, which name both
    constraint customer_orders_summary_is_placed check (
        source_version = '-infinity'
        or num_nulls(
            order_code, order_state, order_date, currency, sub_total, shipping, tax, discount, total,
            total_with_tax, total_paid, total_refunded
        ) = 0
    )
) with (fillfactor = 85);

comment on table public.customer_orders_summary is
'Every placed order, one row each, as the commerce engine has it. Carts and drafts are not here.';
comment on column public.customer_orders_summary.source_version is
'When, by the engine''s clock, this state was read. -infinity: known only because a deletion names it.';
comment on column public.customer_orders_summary.order_state is 'The engine''s own state: PaymentSettled, Shipped, …';
comment on column public.customer_orders_summary.order_date is 'When the order was placed.';
comment on column public.customer_orders_summary.delivery_stage is 'Always equal to order_delivery_status.stage.';
comment on column public.customer_orders_summary.sub_total is 'Of all lines after discounts, without tax and shipping.';
comment on column public.customer_orders_summary.shipping is 'Without tax.';
comment on column public.customer_orders_summary.tax is 'On lines and shipping: total_with_tax less total.';
comment on column public.customer_orders_summary.discount is 'What was taken off, with tax; not below zero.';
comment on column public.customer_orders_summary.total_paid is 'Payments that are settled.';
comment on column public.customer_orders_summary.total_refunded is 'Refunds that are settled.';
comment on column public.customer_orders_summary.contact_phone is
'The phone of the delivery (or billing) address: with it the customer may follow the order.';
comment on column public.customer_orders_summary.contact_email is
'The order''s own, or else the customer''s present one.';
comment on column public.customer_orders_summary.cancelled_at is
'Set while the engine calls the order cancelled: the engine''s last change of it.';
comment on column public.customer_orders_summary.deleted_at is
'When, by the engine''s clock, the order was found deleted.';

comment on column public.customer_orders_summary.batch_id is
'The import batch the order is in, or was in last. Choose another one, or none, to move the order.';
comment on column public.customer_orders_summary.joined_batch_at is
'When the order first joined a batch: from then on it joins none by itself.';
comment on column public.customer_orders_summary.source_delivery_stage is
'The stage as the engine last told it: what an admin has changed since stands until the engine tells another one.';
comment on column public.customer_orders_summary.source_tracking_number is 'Likewise, the tracking number.';
comment on column public.customer_orders_summary.source_hash is
'Digest of the engine''s document that the row was made from; empty where that is not known, or the row was changed since.';
comment on column public.customer_orders_summary.refunded_outside is
'What the payment provider has refunded and the shop does not tell of as settled. It reduces the customer''s spend as '
'total_refunded does. Kept by the mirror.';

create index customer_orders_summary_batch_id on public.customer_orders_summary (batch_id) where batch_id is not null;
create index customer_orders_summary_cancelled_in_batch on public.customer_orders_summary (batch_id)
where batch_id is not null and (cancelled_at is not null or deleted_at is not null);
create index customer_orders_summary_unpaid on public.customer_orders_summary (store_id)
where cancelled_at is null and deleted_at is null and total_paid < total_with_tax and delivery_stage > 'ORDER_CONFIRMED';
create unique index customer_orders_summary_order_code on public.customer_orders_summary (store_id, order_code)
where deleted_at is null;
create index customer_orders_summary_deleted_order_code on public.customer_orders_summary (store_id, order_code)
where deleted_at is not null;
create index customer_orders_summary_customer_id on public.customer_orders_summary (customer_id);
create index customer_orders_summary_order_date on public.customer_orders_summary (store_id, order_date);
create index customer_orders_summary_delivery_stage on public.customer_orders_summary (store_id, delivery_stage);

create trigger touch_updated_at before update on public.customer_orders_summary
for each row execute function mirror.touch_updated_at();
