create table public.refunds (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    payment_id uuid references public.payments (id) on delete cascade,
    order_summary_id uuid references public.customer_orders_summary (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    vendure_refund_id text generated always as (case when source = 'vendure' then source_id end) stored,
    transaction_id text,
    stripe_refund_id text,
    amount public.money_amount not null,
    currency public.currency_code not null,
    status public.refund_status not null,
    reason text,
    failure_reason text,
    initiated_at timestamptz,
    shop_amount public.money_amount,
    shop_status public.refund_status,
    shop_state text,
    provider_amount public.money_amount,
    provider_currency public.currency_code,
    provider_status public.refund_status,
    provider_state text,
    disagreement text,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (payment_id, source, source_id),
    constraint refunds_are_told check (num_nonnulls(shop_amount, provider_amount) > 0)
) with (fillfactor = 85);

comment on table public.refunds is
'Every refund once, whoever tells of it: the shop, the payment provider (Stripe), or both. They meet by the refund''s id; '
'where the shop names only the payment, by the amount.';
comment on column public.refunds.payment_id is 'What was refunded. Empty while that payment is not here yet.';
comment on column public.refunds.source is
'Whose id source_id is: the shop''s where the shop tells of the refund, else the provider''s.';
comment on column public.refunds.source_version is 'When, by the source''s clock, this state was read.';
comment on column public.refunds.transaction_id is
'What the shop calls it at its provider: the refund''s id there, or only the payment''s.';
comment on column public.refunds.stripe_refund_id is 'The refund''s id at Stripe: re_…';
comment on column public.refunds.amount is
'The provider''s amount where it tells one, else the shop''s; likewise currency and status.';
comment on column public.refunds.shop_amount is 'What the shop says. Empty: it does not tell of this refund.';
comment on column public.refunds.shop_state is 'The shop''s own word: Settled, Pending, Failed, …';
comment on column public.refunds.provider_amount is 'What the provider says. Empty: it does not tell of this refund.';
comment on column public.refunds.provider_state is 'The provider''s own word.';
comment on column public.refunds.disagreement is 'In what shop and provider do not agree, in words; empty where they do.';
comment on column public.refunds.deleted_at is 'When, by the provider''s clock, the refund was found deleted there.';

create unique index refunds_stripe_refund_id on public.refunds (store_id, stripe_refund_id)
where stripe_refund_id is not null;
create index refunds_order_summary_id on public.refunds (order_summary_id);
create index refunds_disagreement on public.refunds (order_summary_id) where disagreement is not null;
create index refunds_status on public.refunds (store_id, status);

create trigger touch_updated_at before update on public.refunds
for each row execute function mirror.touch_updated_at();
