create table public.subscription_plans (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    source_order text collate "C" not null default '',
    source_hash text,
    stripe_price_id text generated always as (case when source = 'stripe' then source_id end) stored,
    stripe_product_id text,
    name text,
    amount public.money_amount,
    currency public.currency_code,
    billing_interval public.plan_interval,
    interval_count integer check (interval_count > 0),
    trial_days integer check (trial_days >= 0),
    is_active boolean not null default false,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, source, source_id)
);

comment on table public.subscription_plans is 'What customers can subscribe to: the recurring prices of the payment provider.';
comment on column public.subscription_plans.source_version is
'When, by the provider''s clock, this state was true. -infinity: known only because a deletion names it.';
comment on column public.subscription_plans.source_order is 'Which of two states of the same moment is the newer: the greater.';
comment on column public.subscription_plans.source_hash is
'Digest of the provider''s object that the row was made from; empty where that is not known, or the row was changed since.';
comment on column public.subscription_plans.amount is 'For each interval; empty where the price is not one amount.';
comment on column public.subscription_plans.interval_count is 'Every so many intervals: 3 and month is quarterly.';
comment on column public.subscription_plans.is_active is 'Whether one can subscribe to it now.';
comment on column public.subscription_plans.deleted_at is 'When, by the provider''s clock, it was found deleted.';

create unique index subscription_plans_stripe_price_id on public.subscription_plans (store_id, stripe_price_id)
where stripe_price_id is not null;

create trigger touch_updated_at before update on public.subscription_plans
for each row execute function mirror.touch_updated_at();
