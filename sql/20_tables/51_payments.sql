create table public.payments (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid references public.customer_orders_summary (id),
    customer_id uuid references public.customers (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    vendure_payment_id text generated always as (case when source = 'vendure' then source_id end) stored,
    transaction_id text,
    provider_payment_id text,
    stripe_payment_intent_id text generated always as (
        case when provider_payment_id like 'pi\_%' then provider_payment_id end
    ) stored,
    stripe_charge_id text,
    method text,
    amount public.money_amount not null,
    currency public.currency_code not null,
    status public.payment_status not null,
    failure_code text,
    failure_reason text,
    amount_refunded public.money_amount not null default 0,
    initiated_at timestamptz,
    paid_at timestamptz,
    shop_amount public.money_amount,
    shop_currency public.currency_code,
    shop_status public.payment_status,
    shop_state text,
    shop_failure_reason text,
    provider_amount public.money_amount,
    provider_currency public.currency_code,
    provider_status public.payment_status,
    provider_state text,
    disagreement text,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (order_summary_id, source, source_id),
    constraint payments_are_told check (num_nonnulls(shop_amount, provider_amount) > 0)
) with (fillfactor = 85);

comment on table public.payments is
'Every payment once, whoever tells of it: the shop in its orders, the payment provider (Stripe), or both. They meet by the '
'payment''s id at the provider. What the provider says of money counts; what both say stands side by side.';
comment on column public.payments.order_summary_id is 'The order that it pays. Empty while that is not known, or not here yet.';
comment on column public.payments.customer_id is
'Whose it is: the order''s customer, or the one whom the shop knows by the provider''s customer id.';
comment on column public.payments.source is
'Whose id source_id is: the shop''s where the shop tells of the payment, else the provider''s.';
comment on column public.payments.source_version is 'When, by the source''s clock, this state was read.';
comment on column public.payments.transaction_id is 'What the shop calls the payment at its provider.';
comment on column public.payments.provider_payment_id is
'The payment''s id at the provider: pi_… A payment that the shop tells twice has it once.';
comment on column public.payments.amount is
'The provider''s amount where it tells one, else the shop''s; likewise currency, status and failure.';
comment on column public.payments.failure_reason is 'Why it failed, in words.';
comment on column public.payments.amount_refunded is 'Of its refunds, those that have succeeded. Kept by the mirror.';
comment on column public.payments.initiated_at is 'When it began.';
comment on column public.payments.paid_at is 'When the provider had the money, as far as the provider tells.';
comment on column public.payments.shop_amount is 'What the shop says. Empty: it does not tell of this payment.';
comment on column public.payments.shop_state is 'The shop''s own word: Settled, Authorized, Declined, …';
comment on column public.payments.provider_amount is 'What the provider says. Empty: it does not tell of this payment.';
comment on column public.payments.provider_state is 'The provider''s own word: succeeded, requires_action, …';
comment on column public.payments.disagreement is 'In what shop and provider do not agree, in words; empty where they do.';
comment on column public.payments.deleted_at is 'When, by the provider''s clock, the payment was found deleted there.';

create unique index payments_stripe_payment_intent_id on public.payments (store_id, stripe_payment_intent_id)
where stripe_payment_intent_id is not null;
create unique index payments_provider_payment_id on public.payments (store_id, provider_payment_id)
where provider_payment_id is not null;
create index payments_transaction_id on public.payments (store_id, transaction_id) where transaction_id is not null;
create index payments_status on public.payments (store_id, status);
create index payments_customer_id on public.payments (customer_id);
create index payments_disagreement on public.payments (order_summary_id) where disagreement is not null;

create trigger touch_updated_at before update on public.payments
for each row execute function mirror.touch_updated_at();
