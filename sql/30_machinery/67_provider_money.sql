-- The payment provider's register: what it says of payments and refunds, word for word. public.payments and public.refunds are
-- made of it and of what the shop says (mirror.meet_payments).

create table mirror.provider_payments (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    source_order text collate "C" not null default '',
    source_hash text,
    deleted_at timestamptz,
    order_code text,
    order_source_id text,
    stripe_customer_id text,
    customer_source_id text,
    stripe_charge_id text,
    method text,
    amount public.money_amount,
    currency public.currency_code,
    status public.payment_status,
    source_status text,
    failure_code text,
    failure_reason text,
    initiated_at timestamptz,
    paid_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, source, source_id),
    constraint provider_payments_are_told check (
        source_version = '-infinity' or num_nulls(amount, currency, status, source_status, initiated_at) = 0
    )
) with (fillfactor = 85);

comment on table mirror.provider_payments is
'What the payment provider says of each payment. public.payments shows it beside what the shop says.';
comment on column mirror.provider_payments.source_version is
'When, by the provider''s clock, this state was true. -infinity: only the shop, or a deletion, has named it so far.';
comment on column mirror.provider_payments.source_order is 'Which of two states of the same moment is the newer: the greater.';
comment on column mirror.provider_payments.order_code is
'The order''s code, as the provider was told it; likewise order_source_id.';

create index provider_payments_order_code on mirror.provider_payments (store_id, order_code) where order_code is not null;
create index provider_payments_order_source_id on mirror.provider_payments (store_id, order_source_id)
where order_source_id is not null;
create index provider_payments_stripe_customer_id on mirror.provider_payments (store_id, stripe_customer_id)
where stripe_customer_id is not null;

create index provider_payments_customer_source_id on mirror.provider_payments (store_id, customer_source_id)
where customer_source_id is not null;

create trigger touch_updated_at before update on mirror.provider_payments
for each row execute function mirror.touch_updated_at();

create table mirror.provider_refunds (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    source_order text collate "C" not null default '',
    source_hash text,
    deleted_at timestamptz,
    payment_source_id text,
    amount public.money_amount,
    currency public.currency_code,
    status public.refund_status,
    source_status text,
    reason text,
    failure_reason text,
    initiated_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, source, source_id),
    constraint provider_refunds_are_told check (
        source_version = '-infinity' or num_nulls(amount, currency, status, source_status, initiated_at) = 0
    )
) with (fillfactor = 85);

comment on table mirror.provider_refunds is
'What the payment provider says of each refund. public.refunds shows it beside what the shop says.';
comment on column mirror.provider_refunds.payment_source_id is 'The provider''s id of the payment that was refunded.';

create index provider_refunds_payment_source_id on mirror.provider_refunds (store_id, payment_source_id);

create trigger touch_updated_at before update on mirror.provider_refunds
for each row execute function mirror.touch_updated_at();
