create table public.subscriptions (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    customer_id uuid references public.customers (id),
    plan_id uuid references public.subscription_plans (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    source_order text collate "C" not null default '',
    source_hash text,
    stripe_subscription_id text generated always as (case when source = 'stripe' then source_id end) stored,
    stripe_customer_id text,
    customer_source_id text,
    plan_source_id text,
    latest_invoice_source_id text,
    status public.subscription_status,
    quantity integer,
    currency public.currency_code,
    started_at timestamptz,
    current_period_start timestamptz,
    current_period_end timestamptz,
    trial_ends_at timestamptz,
    cancel_at_period_end boolean not null default false,
    cancel_at timestamptz,
    cancelled_at timestamptz,
    ended_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, source, source_id),
    constraint subscriptions_are_told check (source_version = '-infinity' or status is not null)
) with (fillfactor = 85);

comment on table public.subscriptions is 'The subscriptions of customers, as the payment provider has them.';
comment on column public.subscriptions.customer_id is
'The customer whom the shop knows by the provider''s customer id. Empty while there is none.';
comment on column public.subscriptions.plan_id is 'Empty while the plan is not here yet.';
comment on column public.subscriptions.source_version is
'When, by the provider''s clock, this state was true. -infinity: known only because a deletion names it.';
comment on column public.subscriptions.source_order is 'Which of two states of the same moment is the newer: the greater.';
comment on column public.subscriptions.source_hash is
'Digest of the provider''s object that the row was made from; empty where that is not known, or the row was changed since.';
comment on column public.subscriptions.customer_source_id is 'The shop''s id of the customer, where the provider was told it.';
comment on column public.subscriptions.cancel_at_period_end is 'It is not renewed: it ends with current_period_end.';
comment on column public.subscriptions.deleted_at is 'When, by the provider''s clock, it was found deleted.';

create unique index subscriptions_stripe_subscription_id on public.subscriptions (store_id, stripe_subscription_id)
where stripe_subscription_id is not null;
create index subscriptions_customer_id on public.subscriptions (customer_id);
create index subscriptions_plan_id on public.subscriptions (plan_id);
create index subscriptions_plan_source_id on public.subscriptions (store_id, plan_source_id);
create index subscriptions_stripe_customer_id on public.subscriptions (store_id, stripe_customer_id);
create index subscriptions_customer_source_id on public.subscriptions (store_id, customer_source_id)
where customer_source_id is not null;
create index subscriptions_status on public.subscriptions (store_id, status);

create trigger touch_updated_at before update on public.subscriptions
for each row execute function mirror.touch_updated_at();
