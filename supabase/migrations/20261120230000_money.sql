-- Money: payments, refunds, fulfilments, an order's own history of states, subscriptions and invoices; told by the shop, by its payment
-- provider, or by both.

create type public.payment_status as enum ('pending', 'authorized', 'paid', 'failed', 'cancelled');
comment on type public.payment_status is
'What became of a payment. authorized: the money is reserved. What was refunded of a paid one is told apart.';

create type public.refund_status as enum ('pending', 'succeeded', 'failed', 'cancelled');
comment on type public.refund_status is 'What became of a refund. Only one that has succeeded gives money back.';

create type public.plan_interval as enum ('day', 'week', 'month', 'year');
comment on type public.plan_interval is 'What a subscription plan''s interval is counted in.';

create type public.subscription_status as enum (
    'incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'canceled', 'unpaid', 'paused'
);
comment on type public.subscription_status is 'The state of a subscription, in Stripe''s words.';

create type public.invoice_status as enum ('draft', 'open', 'paid', 'uncollectible', 'void');
comment on type public.invoice_status is 'The state of an invoice, in Stripe''s words. open: finished, and to be paid.';

alter table public.customer_orders_summary add column refunded_outside public.money_amount not null default 0;
comment on column public.customer_orders_summary.refunded_outside is
'What the payment provider has refunded and the shop does not tell of as settled. It reduces the customer''s spend as '
'total_refunded does. Kept by the mirror.';
create index customer_orders_summary_deleted_order_code on public.customer_orders_summary (store_id, order_code)
where deleted_at is not null;
create index customers_stripe_customer_id on public.customers (store_id, (custom_fields ->> 'stripeCustomerId'))
where custom_fields ? 'stripeCustomerId';

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

create table public.fulfillments (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid not null references public.customer_orders_summary (id) on delete cascade,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    state text not null,
    method text,
    tracking_number text,
    lines jsonb not null default '[]',
    fulfilled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (order_summary_id, source_id)
) with (fillfactor = 85);

comment on table public.fulfillments is
'The shop''s own fulfilments of each order: what it has packed, and sent how. Customers follow order_delivery_status instead.';
comment on column public.fulfillments.source_id is 'The engine''s id of the fulfilment.';
comment on column public.fulfillments.state is 'The engine''s own state: Pending, Shipped, Delivered, Cancelled, …';
comment on column public.fulfillments.lines is
'What is in it: [{"source_id": the order line''s, as in customer_order_items, "quantity": 1}].';
comment on column public.fulfillments.fulfilled_at is 'When it was made.';

create index fulfillments_store_id on public.fulfillments (store_id, state);

create trigger touch_updated_at before update on public.fulfillments
for each row execute function mirror.touch_updated_at();

create table public.order_events (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid not null references public.customer_orders_summary (id) on delete cascade,
    source_id text not null check (source_id <> ''),
    from_state text,
    to_state text not null,
    changed_at timestamptz not null,
    created_at timestamptz not null default now(),
    unique (order_summary_id, source_id)
);

comment on table public.order_events is
'Every change of an order''s own state, as the shop''s history of the order has it. That of the delivery is in '
'order_delivery_status_events.';
comment on column public.order_events.source_id is 'The engine''s id of the entry.';
comment on column public.order_events.from_state is 'The engine''s own state before: AddingItems, PaymentAuthorized, …';
comment on column public.order_events.to_state is 'The engine''s own state from then on.';
comment on column public.order_events.changed_at is 'When it changed, by the engine''s clock.';

create index order_events_changed_at on public.order_events (store_id, changed_at);

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

create table public.invoices (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid references public.customer_orders_summary (id),
    customer_id uuid references public.customers (id),
    subscription_id uuid references public.subscriptions (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    source_order text collate "C" not null default '',
    source_hash text,
    stripe_invoice_id text generated always as (case when source = 'stripe' then source_id end) stored,
    stripe_customer_id text,
    customer_source_id text,
    order_code text,
    order_source_id text,
    payment_source_id text,
    subscription_source_id text,
    number text,
    status public.invoice_status,
    customer_name text,
    customer_email public.email_address,
    currency public.currency_code,
    sub_total public.money_amount,
    tax public.money_amount,
    total public.money_amount,
    amount_paid public.money_amount,
    amount_due public.money_amount,
    tax_breakdown jsonb not null default '[]',
    issued_at timestamptz,
    due_at timestamptz,
    paid_at timestamptz,
    voided_at timestamptz,
    pdf_url text,
    hosted_url text,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, source, source_id),
    constraint invoices_are_told check (
        source_version = '-infinity'
        or num_nulls(status, currency, sub_total, tax, total, amount_paid, amount_due) = 0
    )
) with (fillfactor = 85);

comment on table public.invoices is 'The invoices that the payment provider has made, of orders or of subscriptions.';
comment on column public.invoices.order_summary_id is
'The order that it is for, by what the provider was told (order_code) or by the payment. Empty while that is not here.';
comment on column public.invoices.customer_id is
'The order''s customer, or the one whom the shop knows by the provider''s customer id. Empty while there is none.';
comment on column public.invoices.source_version is
'When, by the provider''s clock, this state was true. -infinity: known only because a deletion names it.';
comment on column public.invoices.source_order is 'Which of two states of the same moment is the newer: the greater.';
comment on column public.invoices.source_hash is
'Digest of the provider''s object that the row was made from; empty where that is not known, or the row was changed since.';
comment on column public.invoices.order_code is 'The order''s code, as the provider was told it; likewise order_source_id.';
comment on column public.invoices.payment_source_id is 'The payment''s id at the provider: pi_…';
comment on column public.invoices.number is 'Empty while it is a draft.';
comment on column public.invoices.tax_breakdown is
'Tax by rate: [{"name": "VAT", "rate": "19", "taxable_amount": "100.00", "tax": "19.00"}], exact amounts as text.';
comment on column public.invoices.issued_at is 'When it was finished.';
comment on column public.invoices.pdf_url is
'Where its PDF is. The provider''s own address: whoever has it can read the invoice.';
comment on column public.invoices.deleted_at is
'When, by the provider''s clock, it was found deleted: only drafts are.';

create unique index invoices_stripe_invoice_id on public.invoices (store_id, stripe_invoice_id)
where stripe_invoice_id is not null;
create index invoices_order_summary_id on public.invoices (order_summary_id);
create index invoices_customer_id on public.invoices (customer_id);
create index invoices_subscription_id on public.invoices (subscription_id);
create index invoices_subscription_source_id on public.invoices (store_id, subscription_source_id);
create index invoices_stripe_customer_id on public.invoices (store_id, stripe_customer_id);
create index invoices_payment_source_id on public.invoices (store_id, payment_source_id);
create index invoices_order_code on public.invoices (store_id, order_code) where order_code is not null;
create index invoices_order_source_id on public.invoices (store_id, order_source_id) where order_source_id is not null;
create index invoices_customer_source_id on public.invoices (store_id, customer_source_id)
where customer_source_id is not null;
create index invoices_status on public.invoices (store_id, status);
create index invoices_number on public.invoices (store_id, number);

create trigger touch_updated_at before update on public.invoices
for each row execute function mirror.touch_updated_at();

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

alter table mirror.hand_edits drop constraint hand_edits_entity_check;
alter table mirror.hand_edits add constraint hand_edits_entity_check
check (entity in ('customer', 'order', 'plan', 'subscription', 'invoice'));
comment on column mirror.hand_edits.source_id is 'The engine''s id of what was changed, or whose part was.';

-- Two say what became of a payment: the shop, in its orders, and the payment provider. Each has a register that only it writes:
-- the shop_ columns of public.payments and public.refunds, and mirror.provider_payments and mirror.provider_refunds. What both
-- come to is made anew from the two whenever one of them changes, so it does not matter who tells first, or how often.

create function mirror.find_order(p_store_id uuid, p_order_code text, p_order_source_id text) returns uuid
language sql stable
set search_path = ''
as $$
    select coalesce(
        (
            select o.id
            from public.customer_orders_summary as o
            where o.store_id = p_store_id and o.order_code = p_order_code and o.deleted_at is null
        ),
        (
            select o.id
            from public.customer_orders_summary as o
            where o.store_id = p_store_id and o.order_code = p_order_code and o.deleted_at is not null
            order by o.deleted_at desc, o.source, o.source_id
            limit 1
        ),
        (
            select o.id
            from public.customer_orders_summary as o
            where o.store_id = p_store_id and o.source <> 'stripe' and o.source_id = p_order_source_id and o.order_code is not null
            order by o.source
            limit 1
        )
    )
$$;

comment on function mirror.find_order(uuid, text, text) is
'The order that a payment provider was told of, by its code, or else by the shop''s id; null if it is not here.';
revoke execute on function mirror.find_order(uuid, text, text) from public;
grant execute on function mirror.find_order(uuid, text, text) to service_role;

create function mirror.find_customer(p_store_id uuid, p_customer_source_id text, p_stripe_customer_id text) returns uuid
language sql stable
set search_path = ''
as $$
    select coalesce(
        (
            select c.id
            from public.customers as c
            where c.store_id = p_store_id and c.source <> 'stripe' and c.source_id = p_customer_source_id
            order by c.source
            limit 1
        ),
        (
            -- Vendure's Stripe plugin keeps it there, where no customer can write. Never by e-mail: anybody may claim one.
            select c.id
            from public.customers as c
            where
                c.store_id = p_store_id and c.custom_fields ? 'stripeCustomerId'
                and c.custom_fields ->> 'stripeCustomerId' = p_stripe_customer_id
            order by c.registered_at desc nulls last, c.source_id desc
            limit 1
        )
    )
$$;

comment on function mirror.find_customer(uuid, text, text) is
'The customer whom a payment provider means, by the shop''s id, or else by the provider''s, which the shop keeps in the custom '
'field stripeCustomerId; null if there is none.';
revoke execute on function mirror.find_customer(uuid, text, text) from public;
grant execute on function mirror.find_customer(uuid, text, text) to service_role;

create function mirror.disagree(
    p_shop_amount numeric,
    p_shop_currency text,
    p_shop_status text,
    p_shop_state text,
    p_provider text,
    p_provider_amount numeric,
    p_provider_currency text,
    p_provider_status text,
    p_provider_state text
) returns text
language sql immutable
set search_path = ''
as $$
    -- Of what has failed or was called off no money moved: by which word, and how much it would have been, is all one.
    select nullif(concat_ws(
        '; ',
        case
            when (p_shop_amount, p_shop_currency) is distinct from (p_provider_amount, p_provider_currency)
            and not (p_shop_status in ('failed', 'cancelled') and p_provider_status in ('failed', 'cancelled'))
                then format(
                    '%s %s in the shop, %s %s at %s',
                    p_shop_amount, p_shop_currency, p_provider_amount, p_provider_currency, p_provider
                )
        end,
        case
            when replace(p_shop_status, 'cancelled', 'failed') <> replace(p_provider_status, 'cancelled', 'failed')
                then format('%s in the shop, %s at %s', p_shop_state, p_provider_state, p_provider)
        end
    ), '')
$$;

comment on function mirror.disagree(numeric, text, text, text, text, numeric, text, text, text) is
'In what shop and payment provider do not agree about a payment or refund, in words: amount, currency, state. Null if they '
'agree.';
revoke execute on function mirror.disagree(numeric, text, text, text, text, numeric, text, text, text) from public;
grant execute on function mirror.disagree(numeric, text, text, text, text, numeric, text, text, text) to service_role;

create function mirror.payment_holders(p_store_id uuid, p_ids text[]) returns table (provider_id text, payment_id uuid)
language sql stable
set search_path = ''
as $$
    select distinct on (p.transaction_id) p.transaction_id, p.id
    from public.payments as p
    inner join public.customer_orders_summary as o on o.id = p.order_summary_id
    where p.store_id = p_store_id and p.transaction_id = any(p_ids) and p.shop_amount is not null
    order by
        p.transaction_id, array_position('{paid,authorized,pending,failed,cancelled}'::public.payment_status [], p.shop_status),
        p.initiated_at, o.source, o.source_id, p.source_id
$$;

comment on function mirror.payment_holders(uuid, text[]) is
'Which of the shop''s payments stand for payments of the provider. Of several with one id it is the one that is furthest.';
revoke execute on function mirror.payment_holders(uuid, text[]) from public;
grant execute on function mirror.payment_holders(uuid, text[]) to service_role;

create function mirror.lock_provider_payments(p_store_id uuid, p_ids text[]) returns void
language sql
set search_path = ''
as $$
    insert into mirror.provider_payments as t (store_id, source, source_id, source_version)
    select p_store_id, 'stripe', i.id, '-infinity'
    from (select distinct k.id from unnest(p_ids) as k (id) order by k.id) as i
    on conflict (store_id, source, source_id) do update set source_id = excluded.source_id
    where false
$$;

comment on function mirror.lock_provider_payments(uuid, text[]) is
'Locks these payments of the provider in the order of their ids, until the transaction ends: whoever brings them together does '
'so first, and looks at both registers in later statements. One of which the provider has not told gets a bare row.';
revoke execute on function mirror.lock_provider_payments(uuid, text[]) from public;
grant execute on function mirror.lock_provider_payments(uuid, text[]) to service_role;

create function mirror.meet_payments(p_store_id uuid, p_ids text[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_ids constant text[] := array(select distinct i.id from unnest(p_ids) as i (id) order by i.id);
    v_orders uuid[];
    v_held text[];
    v_holders uuid[];
begin
    if cardinality(v_ids) = 0 then
        return;
    end if;
    perform mirror.lock_provider_payments(p_store_id, v_ids);
    select array_agg(h.provider_id), array_agg(h.payment_id) into v_held, v_holders
    from mirror.payment_holders(p_store_id, v_ids) as h;

    v_orders := array(
        select p.order_summary_id
        from public.payments as p
        where p.store_id = p_store_id and (p.provider_payment_id = any(v_ids) or p.transaction_id = any(v_ids))
    );

    -- What the shop tells alone: without an id any more, or with one that another payment of the shop has as well.
    update public.payments as p
    set
        provider_payment_id = null, stripe_charge_id = null, provider_amount = null, provider_currency = null,
        provider_status = null, provider_state = null, amount = p.shop_amount, currency = p.shop_currency,
        status = p.shop_status, failure_code = null, failure_reason = p.shop_failure_reason, paid_at = null,
        disagreement = alone.disagreement
    from (
        select
            k.id,
            case
                when k.transaction_id = any(v_ids) and k.shop_status in ('paid', 'authorized')
                    then 'the shop tells of ' || k.transaction_id || ' more than once'
            end as disagreement
        from public.payments as k
        left join unnest(v_held, v_holders) as h (provider_id, payment_id) on h.payment_id = k.id
        where
            k.store_id = p_store_id and (k.provider_payment_id = any(v_ids) or k.transaction_id = any(v_ids))
            and k.shop_amount is not null
            and (h.payment_id is null or k.provider_payment_id <> h.provider_id)
    ) as alone
    where
        p.id = alone.id
        and (p.provider_payment_id is not null or p.disagreement is distinct from alone.disagreement);

    -- What the provider alone told so far, and the shop tells now.
    if exists (
        select from public.payments as p
        where p.store_id = p_store_id and p.provider_payment_id = any(v_held) and p.shop_amount is null
    ) then
        update public.refunds as r
        set payment_id = h.payment_id
        from unnest(v_held, v_holders) as h (provider_id, payment_id)
        inner join public.payments as p
            on p.store_id = p_store_id and p.provider_payment_id = h.provider_id and p.shop_amount is null
        where r.payment_id = p.id;
        delete from public.payments as p
        where p.store_id = p_store_id and p.provider_payment_id = any(v_held) and p.shop_amount is null;
    end if;

    perform mirror.show_provider_payments(p_store_id, array(
        select i.id from unnest(v_ids) as i (id) except select h.id from unnest(v_held) as h (id)
    ));

    update public.payments as p
    set
        provider_payment_id = met.provider_payment_id, stripe_charge_id = met.stripe_charge_id,
        provider_amount = met.provider_amount, provider_currency = met.provider_currency,
        provider_status = met.provider_status, provider_state = met.provider_state,
        amount = coalesce(met.provider_amount, p.shop_amount), currency = coalesce(met.provider_currency, p.shop_currency),
        status = coalesce(met.provider_status, p.shop_status), failure_code = met.failure_code,
        failure_reason = coalesce(met.failure_reason, p.shop_failure_reason), paid_at = met.paid_at,
        disagreement = met.disagreement
    from (
        select
            k.id, h.provider_id as provider_payment_id, t.stripe_charge_id, t.amount as provider_amount,
            t.currency as provider_currency, t.status as provider_status, t.source_status as provider_state,
            t.failure_code, t.failure_reason, t.paid_at,
            nullif(concat_ws(
                '; ',
                case when t.id is not null then mirror.disagree(
                    k.shop_amount, k.shop_currency, k.shop_status::text, k.shop_state,
                    initcap(t.source::text), t.amount, t.currency, t.status::text, t.source_status
                ) end,
                case
                    when mirror.find_order(p_store_id, t.order_code, t.order_source_id) <> k.order_summary_id
                        then format(
                            '%s says that it is of another order, %s',
                            initcap(t.source::text), coalesce(t.order_code, t.order_source_id)
                        )
                end
            ), '') as disagreement
        from unnest(v_held, v_holders) as h (provider_id, payment_id)
        inner join public.payments as k on k.id = h.payment_id
        left join mirror.provider_payments as t
            on t.store_id = p_store_id and t.source_id = h.provider_id and t.source_version > '-infinity' and t.deleted_at is null
    ) as met
    where
        p.id = met.id
        and (
            p.provider_payment_id, p.stripe_charge_id, p.provider_amount, p.provider_currency, p.provider_status,
            p.provider_state, p.amount, p.currency, p.status, p.failure_code, p.failure_reason, p.paid_at, p.disagreement
        ) is distinct from (
            met.provider_payment_id, met.stripe_charge_id, met.provider_amount, met.provider_currency, met.provider_status,
            met.provider_state, coalesce(met.provider_amount, p.shop_amount), coalesce(met.provider_currency, p.shop_currency),
            coalesce(met.provider_status, p.shop_status), met.failure_code,
            coalesce(met.failure_reason, p.shop_failure_reason), met.paid_at, met.disagreement
        );

    perform mirror.meet_refunds(p_store_id, v_ids);
    perform mirror.count_refunded_outside(v_orders || array(
        select p.order_summary_id
        from public.payments as p
        where p.store_id = p_store_id and p.provider_payment_id = any(v_ids)
    ));
end
$$;

comment on function mirror.meet_payments(uuid, text[]) is
'Makes public.payments, public.refunds and what orders have refunded outside the shop what both registers say about these '
'payments, by their ids at the provider. Whoever changes one of the registers calls it, in the same transaction.';
revoke execute on function mirror.meet_payments(uuid, text[]) from public;
grant execute on function mirror.meet_payments(uuid, text[]) to service_role;

create function mirror.show_provider_payments(p_store_id uuid, p_ids text[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.payments as p (
        store_id, order_summary_id, customer_id, source, source_id, source_version, provider_payment_id, stripe_charge_id,
        method, amount, currency, status, failure_code, failure_reason, initiated_at, paid_at, provider_amount,
        provider_currency, provider_status, provider_state, disagreement, deleted_at
    )
    select
        t.store_id, o.id,
        coalesce(o.customer_id, mirror.find_customer(p_store_id, t.customer_source_id, t.stripe_customer_id)),
        t.source, t.source_id, t.source_version, t.source_id, t.stripe_charge_id, t.method, t.amount, t.currency,
        t.status, t.failure_code, t.failure_reason, t.initiated_at, t.paid_at, t.amount, t.currency, t.status,
        t.source_status,
        case
            when o.id is not null and t.deleted_at is null and t.status in ('paid', 'authorized')
                then format(
                    '%s %s %s at %s: the shop does not tell of it', t.status, t.amount, t.currency, initcap(t.source::text)
                )
        end,
        t.deleted_at
    from mirror.provider_payments as t
    left join public.customer_orders_summary as o on o.id = mirror.find_order(p_store_id, t.order_code, t.order_source_id)
    where
        t.store_id = p_store_id and t.source_id = any(p_ids) and t.source_version > '-infinity'
    order by t.source_id
    on conflict (store_id, provider_payment_id) where provider_payment_id is not null do update set
        order_summary_id = excluded.order_summary_id,
        customer_id = excluded.customer_id,
        source_version = excluded.source_version,
        stripe_charge_id = excluded.stripe_charge_id,
        method = excluded.method,
        amount = excluded.amount,
        currency = excluded.currency,
        status = excluded.status,
        failure_code = excluded.failure_code,
        failure_reason = excluded.failure_reason,
        initiated_at = excluded.initiated_at,
        paid_at = excluded.paid_at,
        provider_amount = excluded.provider_amount,
        provider_currency = excluded.provider_currency,
        provider_status = excluded.provider_status,
        provider_state = excluded.provider_state,
        disagreement = excluded.disagreement,
        deleted_at = excluded.deleted_at
    where (
        p.order_summary_id, p.customer_id, p.source_version, p.stripe_charge_id, p.method, p.amount, p.currency, p.status,
        p.failure_code, p.failure_reason, p.initiated_at, p.paid_at, p.provider_amount, p.provider_currency,
        p.provider_status, p.provider_state, p.disagreement, p.deleted_at
    ) is distinct from (
        excluded.order_summary_id, excluded.customer_id, excluded.source_version, excluded.stripe_charge_id, excluded.method,
        excluded.amount, excluded.currency, excluded.status, excluded.failure_code, excluded.failure_reason,
        excluded.initiated_at, excluded.paid_at, excluded.provider_amount, excluded.provider_currency,
        excluded.provider_status, excluded.provider_state, excluded.disagreement, excluded.deleted_at
    );
end
$$;

comment on function mirror.show_provider_payments(uuid, text[]) is
'Gives these payments, of which only the provider tells, their rows in public.payments: part of meet_payments.';
revoke execute on function mirror.show_provider_payments(uuid, text[]) from public;
grant execute on function mirror.show_provider_payments(uuid, text[]) to service_role;

create function mirror.pair_refunds(p_store_id uuid, p_payment_ids text[]) returns table (refund_id uuid, provider_refund_id uuid)
language sql stable
set search_path = ''
as $$
    with shops as materialized (
        select
            r.id, r.source_id, p.transaction_id as payment, r.transaction_id, r.shop_amount as amount, p.shop_currency as currency,
            array_position('{succeeded,pending,failed,cancelled}'::public.refund_status [], r.shop_status) as place, r.initiated_at
        from public.payments as p
        inner join public.refunds as r on r.payment_id = p.id
        where p.store_id = p_store_id and p.transaction_id = any(p_payment_ids) and r.shop_amount is not null
    ), providers as materialized (
        select
            t.id, t.source_id, t.payment_source_id as payment, t.amount, t.currency,
            array_position('{succeeded,pending,failed,cancelled}'::public.refund_status [], t.status) as place, t.initiated_at
        from mirror.provider_refunds as t
        where
            t.store_id = p_store_id and t.payment_source_id = any(p_payment_ids) and t.source_version > '-infinity'
            and t.deleted_at is null
    ), named as materialized (
        select distinct on (t.id) s.id as refund_id, t.id as provider_refund_id
        from shops as s
        inner join providers as t on t.source_id = s.transaction_id
        order by t.id, s.place, s.initiated_at, s.source_id
    ), shops_numbered as (
        select
            s.id, s.payment, s.amount, s.currency,
            row_number() over (
                partition by s.payment, s.amount, s.currency order by s.place, s.initiated_at, s.source_id
            ) as number
        from shops as s
        where s.id not in (select n.refund_id from named as n) and coalesce(s.transaction_id, '') not like 're\_%'
    ), providers_numbered as (
        select
            t.id, t.payment, t.amount, t.currency,
            row_number() over (
                partition by t.payment, t.amount, t.currency order by t.place, t.initiated_at, t.source_id
            ) as number
        from providers as t
        where t.id not in (select n.provider_refund_id from named as n)
    )
    select n.refund_id, n.provider_refund_id from named as n
    union all
    select s.id, t.id
    from shops_numbered as s
    inner join providers_numbered as t using (payment, amount, currency, number)
$$;

comment on function mirror.pair_refunds(uuid, text[]) is
'Which refund of the shop is which of the provider, of these payments: by the id that the shop names; where it names only the '
'payment, as Vendure''s Stripe plugin does, by the amount, first to first.';
revoke execute on function mirror.pair_refunds(uuid, text[]) from public;
grant execute on function mirror.pair_refunds(uuid, text[]) to service_role;

create function mirror.meet_refunds(p_store_id uuid, p_payment_ids text[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    if not exists (
        select from mirror.provider_refunds as t where t.store_id = p_store_id and t.payment_source_id = any(p_payment_ids)
    ) then
        return; -- what the shop tells of refunds is as it should be
    end if;

    -- What the shop tells alone, by now.
    update public.refunds as r
    set
        stripe_refund_id = null, provider_amount = null, provider_currency = null, provider_status = null,
        provider_state = null, amount = r.shop_amount, currency = p.shop_currency, status = r.shop_status,
        failure_reason = null, disagreement = null
    from public.payments as p
    where
        p.store_id = p_store_id and p.transaction_id = any(p_payment_ids) and r.payment_id = p.id and r.shop_amount is not null
        and r.stripe_refund_id is not null
        and not exists (
            select
            from mirror.pair_refunds(p_store_id, p_payment_ids) as pair
            inner join mirror.provider_refunds as t on t.id = pair.provider_refund_id
            where pair.refund_id = r.id and t.source_id = r.stripe_refund_id
        );
    -- What the provider told alone so far.
    delete from public.refunds as r
    using mirror.pair_refunds(p_store_id, p_payment_ids) as pair, mirror.provider_refunds as t
    where t.id = pair.provider_refund_id and r.store_id = p_store_id and r.stripe_refund_id = t.source_id and r.shop_amount is null;

    update public.refunds as r
    set
        stripe_refund_id = t.source_id, provider_amount = t.amount, provider_currency = t.currency,
        provider_status = t.status, provider_state = t.source_status, amount = t.amount, currency = t.currency,
        status = t.status, failure_reason = t.failure_reason, disagreement = t.disagreement
    from (
        select
            pair.refund_id, k.source_id, k.amount, k.currency, k.status, k.source_status, k.failure_reason,
            mirror.disagree(
                s.shop_amount, p.shop_currency, s.shop_status::text, s.shop_state,
                initcap(k.source::text), k.amount, k.currency, k.status::text, k.source_status
            ) as disagreement
        from mirror.pair_refunds(p_store_id, p_payment_ids) as pair
        inner join mirror.provider_refunds as k on k.id = pair.provider_refund_id
        inner join public.refunds as s on s.id = pair.refund_id
        inner join public.payments as p on p.id = s.payment_id
    ) as t
    where
        r.id = t.refund_id
        and (
            r.stripe_refund_id, r.provider_amount, r.provider_currency, r.provider_status, r.provider_state, r.amount,
            r.currency, r.status, r.failure_reason, r.disagreement
        ) is distinct from (
            t.source_id, t.amount, t.currency, t.status, t.source_status, t.amount,
            t.currency, t.status, t.failure_reason, t.disagreement
        );

    insert into public.refunds as r (
        store_id, payment_id, order_summary_id, source, source_id, source_version, stripe_refund_id, amount, currency,
        status, reason, failure_reason, initiated_at, provider_amount, provider_currency, provider_status,
        provider_state, disagreement, deleted_at
    )
    select
        t.store_id, p.id, p.order_summary_id, t.source, t.source_id, t.source_version, t.source_id, t.amount, t.currency,
        t.status, t.reason, t.failure_reason, t.initiated_at, t.amount, t.currency, t.status,
        t.source_status,
        case
            when p.order_summary_id is not null and t.deleted_at is null and t.status = 'succeeded'
                then format('%s %s refunded at %s: the shop does not tell of it', t.amount, t.currency, initcap(t.source::text))
        end,
        t.deleted_at
    from mirror.provider_refunds as t
    left join public.payments as p on p.store_id = p_store_id and p.provider_payment_id = t.payment_source_id
    where
        t.store_id = p_store_id and t.payment_source_id = any(p_payment_ids) and t.source_version > '-infinity'
        and not exists (
            select from mirror.pair_refunds(p_store_id, p_payment_ids) as pair where pair.provider_refund_id = t.id
        )
    order by t.source_id
    on conflict (store_id, stripe_refund_id) where stripe_refund_id is not null do update set
        payment_id = excluded.payment_id,
        order_summary_id = excluded.order_summary_id,
        source_version = excluded.source_version,
        amount = excluded.amount,
        currency = excluded.currency,
        status = excluded.status,
        reason = excluded.reason,
        failure_reason = excluded.failure_reason,
        initiated_at = excluded.initiated_at,
        provider_amount = excluded.provider_amount,
        provider_currency = excluded.provider_currency,
        provider_status = excluded.provider_status,
        provider_state = excluded.provider_state,
        disagreement = excluded.disagreement,
        deleted_at = excluded.deleted_at
    where (
        r.payment_id, r.order_summary_id, r.source_version, r.amount, r.currency, r.status, r.reason, r.failure_reason,
        r.initiated_at, r.provider_state, r.disagreement, r.deleted_at
    ) is distinct from (
        excluded.payment_id, excluded.order_summary_id, excluded.source_version, excluded.amount, excluded.currency,
        excluded.status, excluded.reason, excluded.failure_reason, excluded.initiated_at, excluded.provider_state,
        excluded.disagreement, excluded.deleted_at
    );

    perform mirror.sum_refunds(array(
        select p.id
        from public.payments as p
        where
            p.store_id = p_store_id and (p.transaction_id = any(p_payment_ids) or p.provider_payment_id = any(p_payment_ids))
    ));
end
$$;

comment on function mirror.meet_refunds(uuid, text[]) is
'Makes public.refunds what both registers say about the refunds of these payments: part of meet_payments.';
revoke execute on function mirror.meet_refunds(uuid, text[]) from public;
grant execute on function mirror.meet_refunds(uuid, text[]) to service_role;

create function mirror.sum_refunds(p_payments uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    update public.payments as p
    set amount_refunded = s.amount
    from (
        -- What shop and provider tell in other amounts, as one refund made in two, is the same money: the greater counts.
        select
            k.id,
            coalesce(sum(r.amount) filter (where num_nonnulls(r.shop_amount, r.provider_amount) = 2), 0)
            + greatest(
                coalesce(sum(r.amount) filter (where r.provider_amount is null), 0),
                coalesce(sum(r.amount) filter (where r.shop_amount is null), 0)
            ) as amount
        from public.payments as k
        left join public.refunds as r on r.payment_id = k.id and r.status = 'succeeded' and r.deleted_at is null
        where k.id = any(p_payments)
        group by k.id
    ) as s
    where p.id = s.id and p.amount_refunded <> s.amount;
end
$$;

comment on function mirror.sum_refunds(uuid[]) is 'Adds up anew what was refunded of these payments.';
revoke execute on function mirror.sum_refunds(uuid[]) from public;
grant execute on function mirror.sum_refunds(uuid[]) to service_role;

create function mirror.count_refunded_outside(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_changed jsonb;
begin
    -- What the shop calls settled is in total_refunded already. Payment by payment: which refund is which may be in doubt.
    select jsonb_object_agg(s.id, s.amount) into v_changed
    from (
        select o.id, o.refunded_outside, coalesce(sum(greatest(k.by_provider - k.by_shop, 0)), 0) as amount
        from public.customer_orders_summary as o
        left join lateral (
            select
                coalesce(sum(r.provider_amount) filter (
                    where r.provider_status = 'succeeded' and r.provider_currency = o.currency
                ), 0) as by_provider,
                coalesce(sum(r.shop_amount) filter (where r.shop_status = 'succeeded'), 0) as by_shop
            from public.refunds as r
            left join public.payments as p on p.id = r.payment_id
            where r.order_summary_id = o.id and r.deleted_at is null
            group by coalesce(p.transaction_id, p.provider_payment_id, p.id::text)
        ) as k on true
        where o.id = any(p_orders)
        group by o.id
    ) as s
    where s.refunded_outside <> s.amount;
    if v_changed is not null then
        update public.customer_orders_summary as o
        set refunded_outside = (v_changed ->> o.id::text)::numeric
        where o.id in (select c.key::uuid from jsonb_each(v_changed) as c);
    end if;
end
$$;

comment on function mirror.count_refunded_outside(uuid[]) is
'Counts anew what the payment provider has refunded of these orders that the shop does not tell of as settled.';
revoke execute on function mirror.count_refunded_outside(uuid[]) from public;
grant execute on function mirror.count_refunded_outside(uuid[]) to service_role;

-- What a payment provider tells names orders, customers, plans and subscriptions by their ids elsewhere. The links are made here,
-- anew whenever one end arrives or changes: nothing has to wait, and nothing fails for want of the other end.

create function mirror.link_subscriptions(p_store_id uuid, p_subscriptions uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    update public.subscriptions as s
    set plan_id = l.plan_id, customer_id = l.customer_id
    from (
        select
            k.id, p.id as plan_id, mirror.find_customer(p_store_id, k.customer_source_id, k.stripe_customer_id) as customer_id
        from public.subscriptions as k
        left join public.subscription_plans as p
            on p.store_id = p_store_id and p.source = k.source and p.source_id = k.plan_source_id
        where k.id = any(p_subscriptions)
    ) as l
    where s.id = l.id and (s.plan_id, s.customer_id) is distinct from (l.plan_id, l.customer_id);
end
$$;

comment on function mirror.link_subscriptions(uuid, uuid[]) is 'Finds the plans and the customers of these subscriptions anew.';
revoke execute on function mirror.link_subscriptions(uuid, uuid[]) from public;
grant execute on function mirror.link_subscriptions(uuid, uuid[]) to service_role;

create function mirror.link_invoices(p_store_id uuid, p_invoices uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    update public.invoices as i
    set order_summary_id = l.order_id, subscription_id = l.subscription_id, customer_id = l.customer_id
    from (
        select
            k.id, o.id as order_id, s.id as subscription_id,
            coalesce(o.customer_id, mirror.find_customer(p_store_id, k.customer_source_id, k.stripe_customer_id)) as customer_id
        from public.invoices as k
        left join public.payments as p on p.store_id = p_store_id and p.provider_payment_id = k.payment_source_id
        left join public.customer_orders_summary as o
            on o.id = coalesce(mirror.find_order(p_store_id, k.order_code, k.order_source_id), p.order_summary_id)
        left join public.subscriptions as s
            on s.store_id = p_store_id and s.source = k.source and s.source_id = k.subscription_source_id
        where k.id = any(p_invoices)
    ) as l
    where
        i.id = l.id
        and (i.order_summary_id, i.subscription_id, i.customer_id) is distinct from (l.order_id, l.subscription_id, l.customer_id);
end
$$;

comment on function mirror.link_invoices(uuid, uuid[]) is
'Finds the orders, the subscriptions and the customers of these invoices anew.';
revoke execute on function mirror.link_invoices(uuid, uuid[]) from public;
grant execute on function mirror.link_invoices(uuid, uuid[]) to service_role;

create function mirror.link_customers(p_store_id uuid, p_customers uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_source_ids text[];
    v_stripe_ids text[];
begin
    if not exists (select from mirror.provider_payments as t where t.store_id = p_store_id)
    and not exists (select from public.subscriptions as s where s.store_id = p_store_id)
    and not exists (select from public.invoices as i where i.store_id = p_store_id) then
        return;
    end if;
    select array_agg(c.source_id), array_agg(c.custom_fields ->> 'stripeCustomerId') into v_source_ids, v_stripe_ids
    from public.customers as c
    where c.id = any(p_customers);

    perform mirror.link_subscriptions(p_store_id, array(
        select s.id
        from public.subscriptions as s
        where
            s.store_id = p_store_id
            and (s.customer_id = any(p_customers) or s.stripe_customer_id = any(v_stripe_ids) or s.customer_source_id = any(v_source_ids))
    ));
    perform mirror.link_invoices(p_store_id, array(
        select i.id
        from public.invoices as i
        where
            i.store_id = p_store_id
            and (i.customer_id = any(p_customers) or i.stripe_customer_id = any(v_stripe_ids) or i.customer_source_id = any(v_source_ids))
    ));
    -- Of an order's payment the customer is the order's.
    perform mirror.meet_payments(p_store_id, unlinked.ids)
    from (
        select array_agg(p.provider_payment_id) as ids
        from public.payments as p
        inner join mirror.provider_payments as t on t.store_id = p_store_id and t.source_id = p.provider_payment_id
        where
            p.store_id = p_store_id and p.order_summary_id is null
            and (p.customer_id = any(p_customers) or t.stripe_customer_id = any(v_stripe_ids) or t.customer_source_id = any(v_source_ids))
    ) as unlinked
    where unlinked.ids is not null;
end
$$;

comment on function mirror.link_customers(uuid, uuid[]) is
'Links what a payment provider has told of these customers: their subscriptions, invoices, and payments without an order.';
revoke execute on function mirror.link_customers(uuid, uuid[]) from public;
grant execute on function mirror.link_customers(uuid, uuid[]) to service_role;

create type mirror.provider_payment_columns as (
    source_id text [],
    source_version timestamptz [],
    source_order text [],
    source_hash text [],
    order_code text [],
    order_source_id text [],
    stripe_customer_id text [],
    customer_source_id text [],
    stripe_charge_id text [],
    method text [],
    amount numeric [],
    currency text [],
    status public.payment_status [],
    source_status text [],
    failure_code text [],
    failure_reason text [],
    initiated_at timestamptz [],
    paid_at timestamptz []
);

create function mirror.upsert_provider_payments(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_payments mirror.provider_payment_columns
) returns text[]
language sql
set search_path = ''
as $$
    with written as (
        insert into mirror.provider_payments as t (
            store_id, source, source_id, source_version, source_order, source_hash, order_code, order_source_id,
            stripe_customer_id, customer_source_id, stripe_charge_id, method, amount, currency, status, source_status,
            failure_code, failure_reason, initiated_at, paid_at
        )
        select
            p_store_id, p_source, r.source_id, r.source_version, coalesce(r.source_order, ''), r.source_hash, r.order_code,
            r.order_source_id, r.stripe_customer_id, r.customer_source_id, r.stripe_charge_id, r.method, r.amount,
            r.currency, r.status, r.source_status, r.failure_code, r.failure_reason, r.initiated_at, r.paid_at
        from unnest(
            p_payments.source_id, p_payments.source_version, p_payments.source_order, p_payments.source_hash,
            p_payments.order_code, p_payments.order_source_id, p_payments.stripe_customer_id,
            p_payments.customer_source_id, p_payments.stripe_charge_id, p_payments.method, p_payments.amount,
            p_payments.currency, p_payments.status, p_payments.source_status, p_payments.failure_code,
            p_payments.failure_reason, p_payments.initiated_at, p_payments.paid_at
        ) as r (
            source_id, source_version, source_order, source_hash, order_code, order_source_id, stripe_customer_id,
            customer_source_id, stripe_charge_id, method, amount, currency, status, source_status, failure_code,
            failure_reason, initiated_at, paid_at
        )
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            source_order = excluded.source_order,
            source_hash = excluded.source_hash,
            order_code = excluded.order_code,
            order_source_id = excluded.order_source_id,
            stripe_customer_id = excluded.stripe_customer_id,
            customer_source_id = excluded.customer_source_id,
            stripe_charge_id = excluded.stripe_charge_id,
            method = excluded.method,
            amount = excluded.amount,
            currency = excluded.currency,
            status = excluded.status,
            source_status = excluded.source_status,
            failure_code = excluded.failure_code,
            failure_reason = excluded.failure_reason,
            initiated_at = excluded.initiated_at,
            paid_at = excluded.paid_at,
            deleted_at = case when t.deleted_at >= excluded.source_version then t.deleted_at end
        where (t.source_version, t.source_order) < (excluded.source_version, excluded.source_order)
        returning t.source_id
    )
    select coalesce(array_agg(w.source_id), '{}') from written as w
$$;

comment on function mirror.upsert_provider_payments(uuid, public.commerce_engine, mirror.provider_payment_columns) is
'Writes what a provider says of payments where it is newer; returns the ids of those: part of upsert_money.';
revoke execute on function mirror.upsert_provider_payments(uuid, public.commerce_engine, mirror.provider_payment_columns)
from public;
grant execute on function mirror.upsert_provider_payments(uuid, public.commerce_engine, mirror.provider_payment_columns)
to service_role;

create type mirror.provider_refund_columns as (
    source_id text [],
    source_version timestamptz [],
    source_order text [],
    source_hash text [],
    payment_source_id text [],
    amount numeric [],
    currency text [],
    status public.refund_status [],
    source_status text [],
    reason text [],
    failure_reason text [],
    initiated_at timestamptz []
);

create function mirror.upsert_provider_refunds(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_refunds mirror.provider_refund_columns
) returns text[]
language sql
set search_path = ''
as $$
    with written as (
        insert into mirror.provider_refunds as t (
            store_id, source, source_id, source_version, source_order, source_hash, payment_source_id, amount, currency,
            status, source_status, reason, failure_reason, initiated_at
        )
        select
            p_store_id, p_source, r.source_id, r.source_version, coalesce(r.source_order, ''), r.source_hash,
            r.payment_source_id, r.amount, r.currency, r.status, r.source_status, r.reason, r.failure_reason, r.initiated_at
        from unnest(
            p_refunds.source_id, p_refunds.source_version, p_refunds.source_order, p_refunds.source_hash,
            p_refunds.payment_source_id, p_refunds.amount, p_refunds.currency, p_refunds.status,
            p_refunds.source_status, p_refunds.reason, p_refunds.failure_reason, p_refunds.initiated_at
        ) as r (
            source_id, source_version, source_order, source_hash, payment_source_id, amount, currency, status,
            source_status, reason, failure_reason, initiated_at
        )
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            source_order = excluded.source_order,
            source_hash = excluded.source_hash,
            payment_source_id = excluded.payment_source_id,
            amount = excluded.amount,
            currency = excluded.currency,
            status = excluded.status,
            source_status = excluded.source_status,
            reason = excluded.reason,
            failure_reason = excluded.failure_reason,
            initiated_at = excluded.initiated_at,
            deleted_at = case when t.deleted_at >= excluded.source_version then t.deleted_at end
        where (t.source_version, t.source_order) < (excluded.source_version, excluded.source_order)
        returning t.source_id
    )
    select coalesce(array_agg(w.source_id), '{}') from written as w
$$;

comment on function mirror.upsert_provider_refunds(uuid, public.commerce_engine, mirror.provider_refund_columns) is
'Writes what a provider says of refunds where it is newer; returns the ids of those: part of upsert_money.';
revoke execute on function mirror.upsert_provider_refunds(uuid, public.commerce_engine, mirror.provider_refund_columns)
from public;
grant execute on function mirror.upsert_provider_refunds(uuid, public.commerce_engine, mirror.provider_refund_columns)
to service_role;

create type mirror.plan_columns as (
    source_id text [],
    source_version timestamptz [],
    source_order text [],
    source_hash text [],
    stripe_product_id text [],
    name text [],
    amount numeric [],
    currency text [],
    billing_interval public.plan_interval [],
    interval_count integer [],
    trial_days integer [],
    is_active boolean []
);

create function mirror.upsert_plans(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_plans mirror.plan_columns
) returns text[]
language sql
set search_path = ''
as $$
    with written as (
        insert into public.subscription_plans as t (
            store_id, source, source_id, source_version, source_order, source_hash, stripe_product_id, name, amount,
            currency, billing_interval, interval_count, trial_days, is_active
        )
        select
            p_store_id, p_source, r.source_id, r.source_version, coalesce(r.source_order, ''), r.source_hash,
            r.stripe_product_id, r.name, r.amount, r.currency, r.billing_interval, r.interval_count, r.trial_days,
            coalesce(r.is_active, false)
        from unnest(
            p_plans.source_id, p_plans.source_version, p_plans.source_order, p_plans.source_hash,
            p_plans.stripe_product_id, p_plans.name, p_plans.amount, p_plans.currency, p_plans.billing_interval,
            p_plans.interval_count, p_plans.trial_days, p_plans.is_active
        ) as r (
            source_id, source_version, source_order, source_hash, stripe_product_id, name, amount, currency, billing_interval,
            interval_count, trial_days, is_active
        )
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            source_order = excluded.source_order,
            source_hash = excluded.source_hash,
            stripe_product_id = excluded.stripe_product_id,
            name = excluded.name,
            amount = excluded.amount,
            currency = excluded.currency,
            billing_interval = excluded.billing_interval,
            interval_count = excluded.interval_count,
            trial_days = excluded.trial_days,
            is_active = excluded.is_active,
            deleted_at = case when t.deleted_at >= excluded.source_version then t.deleted_at end
        where (t.source_version, t.source_order) < (excluded.source_version, excluded.source_order)
        returning t.source_id
    )
    select coalesce(array_agg(w.source_id), '{}') from written as w
$$;

comment on function mirror.upsert_plans(uuid, public.commerce_engine, mirror.plan_columns) is
'Writes subscription plans where they are newer; returns the ids of those: part of upsert_money.';
revoke execute on function mirror.upsert_plans(uuid, public.commerce_engine, mirror.plan_columns) from public;
grant execute on function mirror.upsert_plans(uuid, public.commerce_engine, mirror.plan_columns) to service_role;

create type mirror.subscription_columns as (
    source_id text [],
    source_version timestamptz [],
    source_order text [],
    source_hash text [],
    stripe_customer_id text [],
    customer_source_id text [],
    plan_source_id text [],
    latest_invoice_source_id text [],
    status public.subscription_status [],
    quantity integer [],
    currency text [],
    started_at timestamptz [],
    current_period_start timestamptz [],
    current_period_end timestamptz [],
    trial_ends_at timestamptz [],
    cancel_at_period_end boolean [],
    cancel_at timestamptz [],
    cancelled_at timestamptz [],
    ended_at timestamptz []
);

create function mirror.upsert_subscriptions(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_subscriptions mirror.subscription_columns
) returns text[]
language sql
set search_path = ''
as $$
    with written as (
        insert into public.subscriptions as t (
            store_id, source, source_id, source_version, source_order, source_hash, stripe_customer_id,
            customer_source_id, plan_source_id, latest_invoice_source_id, status, quantity, currency, started_at,
            current_period_start, current_period_end, trial_ends_at, cancel_at_period_end, cancel_at, cancelled_at,
            ended_at
        )
        select
            p_store_id, p_source, r.source_id, r.source_version, coalesce(r.source_order, ''), r.source_hash,
            r.stripe_customer_id, r.customer_source_id, r.plan_source_id, r.latest_invoice_source_id, r.status, r.quantity,
            r.currency, r.started_at, r.current_period_start, r.current_period_end, r.trial_ends_at,
            coalesce(r.cancel_at_period_end, false), r.cancel_at, r.cancelled_at, r.ended_at
        from unnest(
            p_subscriptions.source_id, p_subscriptions.source_version, p_subscriptions.source_order,
            p_subscriptions.source_hash, p_subscriptions.stripe_customer_id, p_subscriptions.customer_source_id,
            p_subscriptions.plan_source_id, p_subscriptions.latest_invoice_source_id, p_subscriptions.status,
            p_subscriptions.quantity, p_subscriptions.currency, p_subscriptions.started_at,
            p_subscriptions.current_period_start, p_subscriptions.current_period_end, p_subscriptions.trial_ends_at,
            p_subscriptions.cancel_at_period_end, p_subscriptions.cancel_at, p_subscriptions.cancelled_at,
            p_subscriptions.ended_at
        ) as r (
            source_id, source_version, source_order, source_hash, stripe_customer_id, customer_source_id, plan_source_id,
            latest_invoice_source_id, status, quantity, currency, started_at, current_period_start, current_period_end,
            trial_ends_at, cancel_at_period_end, cancel_at, cancelled_at, ended_at
        )
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            source_order = excluded.source_order,
            source_hash = excluded.source_hash,
            stripe_customer_id = excluded.stripe_customer_id,
            customer_source_id = excluded.customer_source_id,
            plan_source_id = excluded.plan_source_id,
            latest_invoice_source_id = excluded.latest_invoice_source_id,
            status = excluded.status,
            quantity = excluded.quantity,
            currency = excluded.currency,
            started_at = excluded.started_at,
            current_period_start = excluded.current_period_start,
            current_period_end = excluded.current_period_end,
            trial_ends_at = excluded.trial_ends_at,
            cancel_at_period_end = excluded.cancel_at_period_end,
            cancel_at = excluded.cancel_at,
            cancelled_at = excluded.cancelled_at,
            ended_at = excluded.ended_at,
            deleted_at = case when t.deleted_at >= excluded.source_version then t.deleted_at end
        where (t.source_version, t.source_order) < (excluded.source_version, excluded.source_order)
        returning t.source_id
    )
    select coalesce(array_agg(w.source_id), '{}') from written as w
$$;

comment on function mirror.upsert_subscriptions(uuid, public.commerce_engine, mirror.subscription_columns) is
'Writes subscriptions where they are newer; returns the ids of those: part of upsert_money.';
revoke execute on function mirror.upsert_subscriptions(uuid, public.commerce_engine, mirror.subscription_columns) from public;
grant execute on function mirror.upsert_subscriptions(uuid, public.commerce_engine, mirror.subscription_columns)
to service_role;

create type mirror.invoice_columns as (
    source_id text [],
    source_version timestamptz [],
    source_order text [],
    source_hash text [],
    stripe_customer_id text [],
    customer_source_id text [],
    order_code text [],
    order_source_id text [],
    payment_source_id text [],
    subscription_source_id text [],
    number text [],
    status public.invoice_status [],
    customer_name text [],
    customer_email text [],
    currency text [],
    sub_total numeric [],
    tax numeric [],
    total numeric [],
    amount_paid numeric [],
    amount_due numeric [],
    tax_breakdown text [],
    issued_at timestamptz [],
    due_at timestamptz [],
    paid_at timestamptz [],
    voided_at timestamptz [],
    pdf_url text [],
    hosted_url text []
);

create function mirror.upsert_invoices(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_invoices mirror.invoice_columns
) returns text[]
language sql
set search_path = ''
as $$
    with written as (
        insert into public.invoices as t (
            store_id, source, source_id, source_version, source_order, source_hash, stripe_customer_id,
            customer_source_id, order_code, order_source_id, payment_source_id, subscription_source_id, number, status,
            customer_name, customer_email, currency, sub_total, tax, total, amount_paid, amount_due, tax_breakdown,
            issued_at, due_at, paid_at, voided_at, pdf_url, hosted_url
        )
        select
            p_store_id, p_source, r.source_id, r.source_version, coalesce(r.source_order, ''), r.source_hash,
            r.stripe_customer_id, r.customer_source_id, r.order_code, r.order_source_id, r.payment_source_id,
            r.subscription_source_id, r.number, r.status, r.customer_name, lower(r.customer_email), r.currency, r.sub_total,
            r.tax, r.total, r.amount_paid, r.amount_due, coalesce(r.tax_breakdown::jsonb, '[]'), r.issued_at, r.due_at,
            r.paid_at, r.voided_at, r.pdf_url, r.hosted_url
        from unnest(
            p_invoices.source_id, p_invoices.source_version, p_invoices.source_order, p_invoices.source_hash,
            p_invoices.stripe_customer_id, p_invoices.customer_source_id, p_invoices.order_code,
            p_invoices.order_source_id, p_invoices.payment_source_id, p_invoices.subscription_source_id,
            p_invoices.number, p_invoices.status, p_invoices.customer_name, p_invoices.customer_email,
            p_invoices.currency, p_invoices.sub_total, p_invoices.tax, p_invoices.total, p_invoices.amount_paid,
            p_invoices.amount_due, p_invoices.tax_breakdown, p_invoices.issued_at, p_invoices.due_at,
            p_invoices.paid_at, p_invoices.voided_at, p_invoices.pdf_url, p_invoices.hosted_url
        ) as r (
            source_id, source_version, source_order, source_hash, stripe_customer_id, customer_source_id, order_code,
            order_source_id, payment_source_id, subscription_source_id, number, status, customer_name, customer_email,
            currency, sub_total, tax, total, amount_paid, amount_due, tax_breakdown, issued_at, due_at, paid_at,
            voided_at, pdf_url, hosted_url
        )
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            source_order = excluded.source_order,
            source_hash = excluded.source_hash,
            stripe_customer_id = excluded.stripe_customer_id,
            customer_source_id = excluded.customer_source_id,
            order_code = excluded.order_code,
            order_source_id = excluded.order_source_id,
            -- Events do not say what an invoice was paid with: who asked once knows it still.
            payment_source_id = coalesce(excluded.payment_source_id, t.payment_source_id),
            subscription_source_id = excluded.subscription_source_id,
            number = excluded.number,
            status = excluded.status,
            customer_name = excluded.customer_name,
            customer_email = excluded.customer_email,
            currency = excluded.currency,
            sub_total = excluded.sub_total,
            tax = excluded.tax,
            total = excluded.total,
            amount_paid = excluded.amount_paid,
            amount_due = excluded.amount_due,
            tax_breakdown = excluded.tax_breakdown,
            issued_at = excluded.issued_at,
            due_at = excluded.due_at,
            paid_at = excluded.paid_at,
            voided_at = excluded.voided_at,
            pdf_url = excluded.pdf_url,
            hosted_url = excluded.hosted_url,
            deleted_at = case when t.deleted_at >= excluded.source_version then t.deleted_at end
        where (t.source_version, t.source_order) < (excluded.source_version, excluded.source_order)
        returning t.source_id
    )
    select coalesce(array_agg(w.source_id), '{}') from written as w
$$;

comment on function mirror.upsert_invoices(uuid, public.commerce_engine, mirror.invoice_columns) is
'Writes invoices where they are newer; returns the ids of those: part of upsert_money.';
revoke execute on function mirror.upsert_invoices(uuid, public.commerce_engine, mirror.invoice_columns) from public;
grant execute on function mirror.upsert_invoices(uuid, public.commerce_engine, mirror.invoice_columns) to service_role;

-- What a payment provider tells. Of two states the newer counts; of two of the same moment (Stripe's clock shows seconds) the one
-- with the greater source_order; a deletion outlives the states of its moment.

create type mirror.money_deletion_columns as (
    entity text [],
    source_id text [],
    source_version timestamptz []
);

create function mirror.delete_money(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_entity text,
    p_deletions mirror.money_deletion_columns
) returns text[]
language plpgsql
set search_path = ''
as $$
declare
    v_table constant text := case p_entity
        when 'payment' then 'mirror.provider_payments'
        when 'refund' then 'mirror.provider_refunds'
        when 'plan' then 'public.subscription_plans'
        when 'subscription' then 'public.subscriptions'
        when 'invoice' then 'public.invoices'
    end;
    v_deleted text[] := '{}';
begin
    if p_entity = any(p_deletions.entity) then
        execute format(
            'with deleted as (
                insert into %s as t (store_id, source, source_id, source_version, deleted_at)
                select $1, $2, r.source_id, ''-infinity'', max(r.source_version)
                from unnest($3, $4, $5) as r (entity, source_id, source_version)
                where r.entity = $6
                group by r.source_id
                order by r.source_id
                on conflict (store_id, source, source_id) do update set deleted_at = excluded.deleted_at
                where t.source_version <= excluded.deleted_at and coalesce(t.deleted_at < excluded.deleted_at, true)
                returning t.source_id
            )
            select coalesce(array_agg(d.source_id), ''{}'') from deleted as d', v_table
        )
        into v_deleted
        using p_store_id, p_source, p_deletions.entity, p_deletions.source_id, p_deletions.source_version, p_entity;
    end if;
    return v_deleted;
end
$$;

comment on function mirror.delete_money(uuid, public.commerce_engine, text, mirror.money_deletion_columns) is
'Marks payments, refunds, plans, subscriptions or invoices deleted where nothing newer is known; returns their ids. One that was '
'never seen gets a tombstone: part of upsert_money.';
revoke execute on function mirror.delete_money(uuid, public.commerce_engine, text, mirror.money_deletion_columns) from public;
grant execute on function mirror.delete_money(uuid, public.commerce_engine, text, mirror.money_deletion_columns)
to service_role;

create function mirror.has_money(p_records jsonb) returns boolean
language sql immutable
set search_path = ''
as $$
    select
        jsonb_array_length(p_records #> '{provider_payments,source_id}') > 0
        or jsonb_array_length(p_records #> '{provider_refunds,source_id}') > 0
        or jsonb_array_length(p_records #> '{subscription_plans,source_id}') > 0
        or jsonb_array_length(p_records #> '{subscriptions,source_id}') > 0
        or jsonb_array_length(p_records #> '{invoices,source_id}') > 0
        or jsonb_array_length(p_records #> '{deleted_money,source_id}') > 0
$$;

comment on function mirror.has_money(jsonb) is 'Whether records, as apply_records takes them, hold something for upsert_money.';
revoke execute on function mirror.has_money(jsonb) from public;
grant execute on function mirror.has_money(jsonb) to service_role;

create function mirror.upsert_money(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions constant mirror.money_deletion_columns
        := jsonb_populate_record(null::mirror.money_deletion_columns, p_records -> 'deleted_money');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_actor text;
    v_payments text[];
    v_refunds text[];
    v_plans text[];
    v_subscriptions text[];
    v_invoices text[];
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);
    -- Alone: an order that is being written now would not see that a payment waits for it, nor be seen from here.
    perform mirror.take_turn(p_together => false);

    v_payments := mirror.upsert_provider_payments(
        v_store_id, v_source, jsonb_populate_record(null::mirror.provider_payment_columns, p_records -> 'provider_payments')
    ) || mirror.delete_money(v_store_id, v_source, 'payment', v_deletions);
    v_refunds := mirror.upsert_provider_refunds(
        v_store_id, v_source, jsonb_populate_record(null::mirror.provider_refund_columns, p_records -> 'provider_refunds')
    ) || mirror.delete_money(v_store_id, v_source, 'refund', v_deletions);
    v_plans := mirror.upsert_plans(
        v_store_id, v_source, jsonb_populate_record(null::mirror.plan_columns, p_records -> 'subscription_plans')
    ) || mirror.delete_money(v_store_id, v_source, 'plan', v_deletions);
    v_subscriptions := mirror.upsert_subscriptions(
        v_store_id, v_source, jsonb_populate_record(null::mirror.subscription_columns, p_records -> 'subscriptions')
    ) || mirror.delete_money(v_store_id, v_source, 'subscription', v_deletions);
    v_invoices := mirror.upsert_invoices(
        v_store_id, v_source, jsonb_populate_record(null::mirror.invoice_columns, p_records -> 'invoices')
    ) || mirror.delete_money(v_store_id, v_source, 'invoice', v_deletions);

    perform mirror.meet_payments(v_store_id, v_payments || array(
        select t.payment_source_id
        from mirror.provider_refunds as t
        where
            t.store_id = v_store_id and t.source = v_source and t.source_id = any(v_refunds) and t.payment_source_id is not null
    ));
    perform mirror.link_subscriptions(v_store_id, array(
        select s.id
        from public.subscriptions as s
        where
            s.store_id = v_store_id and s.source = v_source
            and (s.source_id = any(v_subscriptions) or s.plan_source_id = any(v_plans))
    ));
    perform mirror.link_invoices(v_store_id, array(
        select i.id
        from public.invoices as i
        where
            i.store_id = v_store_id and i.source = v_source
            and (
                i.source_id = any(v_invoices) or i.subscription_source_id = any(v_subscriptions)
                or i.payment_source_id = any(v_payments)
            )
    ));
    perform mirror.act_as(v_actor);
    return cardinality(v_payments) + cardinality(v_refunds) + cardinality(v_plans) + cardinality(v_subscriptions)
        + cardinality(v_invoices);
end
$$;

comment on function mirror.upsert_money(uuid, jsonb) is
'Writes what a payment provider tells (payments, refunds, subscription plans, subscriptions, invoices, and their deletions) '
'where it is newer than what is there, and links it; returns how many changed. p_records: {"provider_payments": {column: [..]}, '
'"provider_refunds", "subscription_plans", "subscriptions", "invoices", "deleted_money"} with the columns of '
'mirror.provider_payment_columns and so on; a source_id at most once.';
revoke execute on function mirror.upsert_money(uuid, jsonb) from public;
grant execute on function mirror.upsert_money(uuid, jsonb) to service_role;

-- What a shop's order says of money and goods beyond its lines: payments, refunds, fulfilments, and its own history of states.

create type mirror.payment_columns as (
    order_source_id text [],
    source_id text [],
    method text [],
    amount numeric [],
    status public.payment_status [],
    source_status text [],
    transaction_id text [],
    failure_reason text [],
    initiated_at timestamptz []
);

create type mirror.refund_columns as (
    order_source_id text [],
    payment_source_id text [],
    source_id text [],
    amount numeric [],
    status public.refund_status [],
    source_status text [],
    reason text [],
    transaction_id text [],
    initiated_at timestamptz []
);

create type mirror.fulfillment_columns as (
    order_source_id text [],
    source_id text [],
    state text [],
    method text [],
    tracking_number text [],
    lines text [],
    fulfilled_at timestamptz []
);

create type mirror.order_event_columns as (
    order_source_id text [],
    source_id text [],
    from_state text [],
    to_state text [],
    changed_at timestamptz []
);

create function mirror.replace_payments(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_payments mirror.payment_columns,
    p_alone text[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.payments as p (
        store_id, order_summary_id, customer_id, source, source_id, source_version, transaction_id, provider_payment_id,
        method, amount, currency, status, failure_reason, initiated_at, shop_amount, shop_currency, shop_status,
        shop_state, shop_failure_reason
    )
    select
        p_store_id, o.id, o.customer_id, p_source, r.source_id, o.source_version, r.transaction_id, a.id, r.method,
        r.amount, o.currency, r.status, r.failure_reason, r.initiated_at, r.amount, o.currency, r.status,
        r.source_status, r.failure_reason
    from unnest(
        p_payments.order_source_id, p_payments.source_id, p_payments.method, p_payments.amount, p_payments.status,
        p_payments.source_status, p_payments.transaction_id, p_payments.failure_reason, p_payments.initiated_at
    ) as r (
        order_source_id, source_id, method, amount, status, source_status, transaction_id, failure_reason, initiated_at
    )
    cross join lateral (
        select k.id, k.customer_id, k.source_version, k.currency
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each, see mirror.replace_order_items
    ) as o
    left join unnest(p_alone) as a (id) on a.id = r.transaction_id
    where (o.id in (select w.id from unnest(p_orders) as w (id))) is true -- hashed; `= any` compares with each
    on conflict (order_summary_id, source, source_id) do update set
        customer_id = excluded.customer_id,
        source_version = excluded.source_version,
        transaction_id = excluded.transaction_id,
        method = excluded.method,
        -- What the provider says stands: mirror.meet_payments looks at both.
        amount = coalesce(p.provider_amount, excluded.amount),
        currency = coalesce(p.provider_currency, excluded.currency),
        status = coalesce(p.provider_status, excluded.status),
        failure_reason = case when p.provider_status is null then excluded.failure_reason else p.failure_reason end,
        initiated_at = excluded.initiated_at,
        shop_amount = excluded.shop_amount,
        shop_currency = excluded.shop_currency,
        shop_status = excluded.shop_status,
        shop_state = excluded.shop_state,
        shop_failure_reason = excluded.shop_failure_reason
    where p.source_version < excluded.source_version;
end
$$;

comment on function mirror.replace_payments(
    uuid, public.commerce_engine, uuid[], mirror.payment_columns, text[]
) is
'Writes what the shop says of the payments of the orders p_orders, at the orders'' versions: part of record_money. p_alone: of '
'mirror.payments_alone.';
revoke execute on function mirror.replace_payments(
    uuid, public.commerce_engine, uuid[], mirror.payment_columns, text[]
) from public;
grant execute on function mirror.replace_payments(
    uuid, public.commerce_engine, uuid[], mirror.payment_columns, text[]
) to service_role;

create function mirror.payments_alone(p_store_id uuid, p_ids text[]) returns text[]
language sql stable
set search_path = ''
as $$
    select coalesce(array_agg(i.id), '{}')
    from (
        select k.id
        from unnest(p_ids) as k (id)
        group by k.id
        having count(*) = 1
    ) as i
    where
        not exists (select from public.payments as p where p.store_id = p_store_id and p.provider_payment_id = i.id)
        and not exists (select from public.payments as p where p.store_id = p_store_id and p.transaction_id = i.id)
        and not exists (
            select from mirror.provider_refunds as t where t.store_id = p_store_id and t.payment_source_id = i.id
        )
        and not exists (
            select from mirror.provider_payments as t
            where t.store_id = p_store_id and t.source_id = i.id and t.source_version > '-infinity'
        )
$$;

comment on function mirror.payments_alone(uuid, text[]) is
'Which of these payments, which must be locked, nobody has told of before: whoever does now has nobody to meet.';
revoke execute on function mirror.payments_alone(uuid, text[]) from public;
grant execute on function mirror.payments_alone(uuid, text[]) to service_role;

create function mirror.replace_refunds(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_refunds mirror.refund_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.refunds as f (
        store_id, payment_id, order_summary_id, source, source_id, source_version, transaction_id, amount, currency, status,
        reason, initiated_at, shop_amount, shop_status, shop_state
    )
    select
        p_store_id, p.id, o.id, p_source, r.source_id, o.source_version, r.transaction_id, r.amount, o.currency, r.status,
        r.reason, r.initiated_at, r.amount, r.status, r.source_status
    from unnest(
        p_refunds.order_source_id, p_refunds.payment_source_id, p_refunds.source_id, p_refunds.amount, p_refunds.status,
        p_refunds.source_status, p_refunds.reason, p_refunds.transaction_id, p_refunds.initiated_at
    ) as r (
        order_source_id, payment_source_id, source_id, amount, status, source_status, reason, transaction_id, initiated_at
    )
    inner join public.customer_orders_summary as o
        on o.store_id = p_store_id and o.source = p_source and o.source_id = r.order_source_id
    inner join public.payments as p
        on p.order_summary_id = o.id and p.source = p_source and p.source_id = r.payment_source_id
    where o.id = any(p_orders)
    on conflict (payment_id, source, source_id) do update set
        order_summary_id = excluded.order_summary_id,
        source_version = excluded.source_version,
        transaction_id = excluded.transaction_id,
        amount = coalesce(f.provider_amount, excluded.amount),
        currency = coalesce(f.provider_currency, excluded.currency),
        status = coalesce(f.provider_status, excluded.status),
        reason = excluded.reason,
        initiated_at = excluded.initiated_at,
        shop_amount = excluded.shop_amount,
        shop_status = excluded.shop_status,
        shop_state = excluded.shop_state
    where f.source_version < excluded.source_version;
end
$$;

comment on function mirror.replace_refunds(uuid, public.commerce_engine, uuid[], mirror.refund_columns) is
'Writes what the shop says of the refunds of the orders p_orders, at the orders'' versions: part of record_money.';
revoke execute on function mirror.replace_refunds(uuid, public.commerce_engine, uuid[], mirror.refund_columns) from public;
grant execute on function mirror.replace_refunds(uuid, public.commerce_engine, uuid[], mirror.refund_columns)
to service_role;

create function mirror.replace_fulfillments(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_fulfillments mirror.fulfillment_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.fulfillments as f (
        store_id, order_summary_id, source_id, source_version, state, method, tracking_number, lines, fulfilled_at
    )
    select
        p_store_id, o.id, r.source_id, o.source_version, r.state, r.method, r.tracking_number,
        coalesce(r.lines::jsonb, '[]'), r.fulfilled_at
    from unnest(
        p_fulfillments.order_source_id, p_fulfillments.source_id, p_fulfillments.state, p_fulfillments.method,
        p_fulfillments.tracking_number, p_fulfillments.lines, p_fulfillments.fulfilled_at
    ) as r (order_source_id, source_id, state, method, tracking_number, lines, fulfilled_at)
    cross join lateral (
        select k.id, k.source_version
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0
    ) as o
    where (o.id in (select w.id from unnest(p_orders) as w (id))) is true
    on conflict (order_summary_id, source_id) do update set
        source_version = excluded.source_version,
        state = excluded.state,
        method = excluded.method,
        tracking_number = excluded.tracking_number,
        lines = excluded.lines,
        fulfilled_at = excluded.fulfilled_at
    where f.source_version < excluded.source_version;
end
$$;

comment on function mirror.replace_fulfillments(uuid, public.commerce_engine, uuid[], mirror.fulfillment_columns) is
'Writes the fulfilments of the orders p_orders, at the orders'' versions: part of record_money.';
revoke execute on function mirror.replace_fulfillments(uuid, public.commerce_engine, uuid[], mirror.fulfillment_columns)
from public;
grant execute on function mirror.replace_fulfillments(uuid, public.commerce_engine, uuid[], mirror.fulfillment_columns)
to service_role;

create function mirror.add_order_events(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_events mirror.order_event_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_events as e (store_id, order_summary_id, source_id, from_state, to_state, changed_at)
    select p_store_id, o.id, r.source_id, r.from_state, r.to_state, r.changed_at
    from unnest(
        p_events.order_source_id, p_events.source_id, p_events.from_state, p_events.to_state, p_events.changed_at
    ) as r (order_source_id, source_id, from_state, to_state, changed_at)
    cross join lateral (
        select k.id
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0
    ) as o
    where (o.id in (select w.id from unnest(p_orders) as w (id))) is true
    on conflict (order_summary_id, source_id) do update set
        from_state = excluded.from_state,
        to_state = excluded.to_state,
        changed_at = excluded.changed_at
    where (e.from_state, e.to_state, e.changed_at) is distinct from (excluded.from_state, excluded.to_state, excluded.changed_at);
end
$$;

comment on function mirror.add_order_events(uuid, public.commerce_engine, uuid[], mirror.order_event_columns) is
'Writes the history of states of the orders p_orders: part of record_money.';
revoke execute on function mirror.add_order_events(uuid, public.commerce_engine, uuid[], mirror.order_event_columns)
from public;
grant execute on function mirror.add_order_events(uuid, public.commerce_engine, uuid[], mirror.order_event_columns)
to service_role;

create function mirror.remove_untold_money(
    p_source public.commerce_engine,
    p_orders uuid[],
    p_events mirror.order_event_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    delete from public.refunds as f
    using public.customer_orders_summary as o
    where
        o.id = any(p_orders) and f.order_summary_id = o.id and f.source = p_source and f.source_version < o.source_version;
    delete from public.payments as p
    using public.customer_orders_summary as o
    where
        o.id = any(p_orders) and p.order_summary_id = o.id and p.source = p_source and p.source_version < o.source_version;
    delete from public.fulfillments as f
    using public.customer_orders_summary as o
    where o.id = any(p_orders) and f.order_summary_id = o.id and f.source_version < o.source_version;
    delete from public.order_events as e
    using public.customer_orders_summary as o
    where
        o.id = any(p_orders) and e.order_summary_id = o.id
        and (o.source_id, e.source_id) not in (
            select r.order_source_id, r.source_id
            from unnest(p_events.order_source_id, p_events.source_id) as r (order_source_id, source_id)
        );
end
$$;

comment on function mirror.remove_untold_money(public.commerce_engine, uuid[], mirror.order_event_columns) is
'Removes what the present states of the orders p_orders do not tell any more: part of record_money.';
revoke execute on function mirror.remove_untold_money(public.commerce_engine, uuid[], mirror.order_event_columns) from public;
grant execute on function mirror.remove_untold_money(public.commerce_engine, uuid[], mirror.order_event_columns)
to service_role;

create function mirror.provider_payments_of(p_store_id uuid, p_orders uuid[]) returns text[]
language plpgsql stable
set search_path = ''
as $$
begin
    -- By what the provider was told of the orders. Most shops have no such payments: that is one look.
    if not exists (
        select from mirror.provider_payments as t where t.store_id = p_store_id and t.source_version > '-infinity'
    ) then
        return '{}';
    end if;
    return array(
        select t.source_id
        from public.customer_orders_summary as o
        inner join mirror.provider_payments as t on t.store_id = p_store_id and t.order_code = o.order_code
        where o.id = any(p_orders)
        union
        select t.source_id
        from public.customer_orders_summary as o
        inner join mirror.provider_payments as t on t.store_id = p_store_id and t.order_source_id = o.source_id
        where o.id = any(p_orders)
    );
end
$$;

comment on function mirror.provider_payments_of(uuid, uuid[]) is
'The ids of the payments that the provider was told are for these orders.';
revoke execute on function mirror.provider_payments_of(uuid, uuid[]) from public;
grant execute on function mirror.provider_payments_of(uuid, uuid[]) to service_role;

create function mirror.record_money(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_records jsonb
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_payments constant mirror.payment_columns
        := jsonb_populate_record(null::mirror.payment_columns, p_records -> 'payments');
    v_refunds constant mirror.refund_columns
        := jsonb_populate_record(null::mirror.refund_columns, p_records -> 'refunds');
    v_fulfillments constant mirror.fulfillment_columns
        := jsonb_populate_record(null::mirror.fulfillment_columns, p_records -> 'fulfillments');
    v_events constant mirror.order_event_columns
        := jsonb_populate_record(null::mirror.order_event_columns, p_records -> 'order_events');
    v_named constant text[] := array(
        select i.id from unnest(v_payments.transaction_id) as i (id) where i.id ~ '^(pi|ch|py)_'
    );
    v_alone text[] := '{}';
    v_known uuid[];
    v_met text[];
begin
    -- Orders of which something was told before.
    v_known := array(
        select o.id
        from unnest(p_orders) as o (id)
        where
            exists (select from public.payments as p where p.order_summary_id = o.id)
            or exists (select from public.order_events as e where e.order_summary_id = o.id)
            or exists (select from public.fulfillments as f where f.order_summary_id = o.id)
    );
    if cardinality(v_named) > 0 then
        perform mirror.lock_provider_payments(p_store_id, v_named);
        v_alone := mirror.payments_alone(p_store_id, v_named);
    end if;
    v_met := array(
        select i.id from unnest(v_named) as i (id)
        except
        select a.id from unnest(v_alone) as a (id)
        union
        select p.provider_payment_id
        from public.payments as p
        where p.order_summary_id = any(v_known) and p.provider_payment_id is not null
    ) || mirror.provider_payments_of(p_store_id, p_orders);

    if cardinality(v_payments.source_id) > 0 then
        perform mirror.replace_payments(p_store_id, p_source, p_orders, v_payments, v_alone);
        v_met := v_met || array( -- what was here already and has another id by now
            select p.transaction_id
            from public.payments as p
            where
                p.order_summary_id = any(v_known) and p.transaction_id = any(v_named)
                and p.provider_payment_id is distinct from p.transaction_id
        );
    end if;
    if cardinality(v_refunds.source_id) > 0 then
        perform mirror.replace_refunds(p_store_id, p_source, p_orders, v_refunds);
    end if;
    if cardinality(v_fulfillments.source_id) > 0 then
        perform mirror.replace_fulfillments(p_store_id, p_source, p_orders, v_fulfillments);
    end if;
    if cardinality(v_events.source_id) > 0 then
        perform mirror.add_order_events(p_store_id, p_source, p_orders, v_events);
    end if;
    if cardinality(v_known) > 0 then
        perform mirror.remove_untold_money(p_source, v_known, v_events);
    end if;
    if cardinality(v_refunds.source_id) > 0 or cardinality(v_known) > 0 then
        perform mirror.sum_refunds(array(
            select p.id
            from public.payments as p
            where
                p.order_summary_id = any(p_orders)
                and (p.amount_refunded <> 0 or exists (select from public.refunds as f where f.payment_id = p.id))
        ));
    end if;
    if cardinality(v_met) > 0 then
        perform mirror.meet_payments(p_store_id, v_met);
    end if;
    if cardinality(v_known) > 0 then
        -- A payment that moved to another order took its refunds with it.
        perform mirror.count_refunded_outside(array(
            select o.id from public.customer_orders_summary as o where o.id = any(v_known) and o.refunded_outside <> 0
        ));
    end if;
    if exists (select from public.invoices as i where i.store_id = p_store_id) then
        perform mirror.link_invoices(p_store_id, array(
            select i.id from public.invoices as i where i.order_summary_id = any(p_orders)
            union
            select i.id from public.invoices as i where i.store_id = p_store_id and i.payment_source_id = any(v_named || v_met)
            union
            select i.id
            from public.customer_orders_summary as o
            inner join public.invoices as i on i.store_id = p_store_id and i.order_code = o.order_code
            where o.id = any(p_orders)
            union
            select i.id
            from public.customer_orders_summary as o
            inner join public.invoices as i on i.store_id = p_store_id and i.order_source_id = o.source_id
            where o.id = any(p_orders)
        ));
    end if;
end
$$;

comment on function mirror.record_money(uuid, public.commerce_engine, uuid[], jsonb) is
'Makes payments, refunds, fulfilments and the history of states what the orders p_orders tell of them: part of upsert_orders. '
'p_records: {"payments": {column: [..]}, "refunds", "fulfillments", "order_events"} with the columns of '
'mirror.payment_columns, mirror.refund_columns, mirror.fulfillment_columns and mirror.order_event_columns.';
revoke execute on function mirror.record_money(uuid, public.commerce_engine, uuid[], jsonb) from public;
grant execute on function mirror.record_money(uuid, public.commerce_engine, uuid[], jsonb) to service_role;

create or replace function mirror.upsert_customers(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_customers mirror.customer_columns
        := jsonb_populate_record(null::mirror.customer_columns, p_records -> 'customers');
    v_addresses mirror.address_columns
        := jsonb_populate_record(null::mirror.address_columns, p_records -> 'addresses');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_known jsonb;
    v_deleted text[];
    v_written mirror.written_customer[];
    v_ids uuid[];
    v_emails text[];
    v_actor text;
    v_was_overtaken boolean;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    if v_customers.source_id is null or v_customers.source_id = '{}' then
        return 0;
    end if;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- Lock what is there in key order, and remember the addresses that may become free.
    select
        coalesce(jsonb_object_agg(known.source_id, known.email), '{}'),
        array_agg(known.source_id) filter (where known.deleted_at is not null)
    into v_known, v_deleted
    from (
        select found.source_id, found.email, found.deleted_at
        from (select r.source_id from unnest(v_customers.source_id) as r (source_id) order by r.source_id) as wanted
        cross join lateral (
            select c.source_id, c.email, c.deleted_at
            from public.customers as c
            where c.store_id = v_store_id and c.source = v_source and c.source_id = wanted.source_id
            for no key update -- one look-up each, see mirror.replace_order_items
        ) as found
    ) as known;

    -- Who is the first to have an address is active from the start, which saves choosing. Only where all are new: what was locked
    -- above would be locked once more by the block. If another transaction brings the same address, we wait for it and choose.
    if v_known = '{}' then
        begin
            v_written := array(
                select w
                from mirror.write_customers(
                    v_store_id, v_source, v_customers, mirror.fresh_addresses(v_store_id, v_customers.email)
                ) as w
            );
        exception when unique_violation then
            v_written := null;
        end;
    end if;
    if v_written is null then
        v_written := array(select w from mirror.write_customers(v_store_id, v_source, v_customers, '{}') as w);
    end if;

    select
        array_agg(distinct w.id),
        array_agg(distinct e.email) filter (
            where e.email is not null and (w.was_there or not w.is_active)
            and (w.email is distinct from (v_known ->> w.source_id) or w.source_id = any(v_deleted))
        ),
        bool_or(w.was_there and not v_known ? w.source_id)
    into v_ids, v_emails, v_was_overtaken
    from unnest(v_written) as w
    cross join lateral (values (w.email), (v_known ->> w.source_id)) as e (email);

    if v_ids is null then
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    -- Somebody else brought a customer after we looked: the address that they had before is not known here.
    if v_was_overtaken then
        raise exception 'another transaction brought one of these customers at the same moment'
        using errcode = 'serialization_failure', hint = 'Do the same again.';
    end if;
    if v_emails is not null then
        perform mirror.activate_customers(v_store_id, v_emails);
    end if;
    perform mirror.replace_addresses(v_store_id, v_source, v_ids, v_addresses);
    -- An order that was placed under the customer's address is reached under the new one.
    if v_emails is not null then
        update public.customer_orders_summary as o
        set contact_email = c.email
        from public.customers as c
        where
            c.id = any(v_ids) and o.customer_id = c.id
            and o.contact_email is not distinct from (v_known ->> c.source_id)
            and o.contact_email is distinct from c.email;
    end if;
    perform mirror.link_customers(v_store_id, v_ids);
    perform mirror.act_as(v_actor);
    return cardinality(v_ids);
end
$$;

comment on function mirror.upsert_customers(uuid, jsonb) is
'Writes customers, each with its whole address book, where they are newer than what is there; returns how many were written. '
'p_records: {"customers": {column: [..]}, "addresses": {column: [..]}} with the columns of mirror.customer_columns and '
'mirror.address_columns; a source_id at most once.';

create or replace function mirror.refresh_customer_statistics(p_customers uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Locked first, counted in the next statement: whoever waits here sees what the one before has committed.
    perform
    from public.customers as c
    where c.id = any(p_customers)
    order by c.source_id
    for no key update;

    update public.customers as c
    set
        total_orders = s.total_orders,
        total_spent = s.total_spent,
        spent_by_currency = s.spent_by_currency,
        last_order_date = s.last_order_date
    from (
        select
            k.id,
            coalesce(sum(t.orders), 0)::integer as total_orders,
            coalesce(sum(t.spent) filter (where t.currency = st.currency), 0) as total_spent,
            coalesce(jsonb_object_agg(t.currency, t.spent) filter (where t.currency is not null), '{}')
                as spent_by_currency,
            max(t.last_order_date) as last_order_date
        from public.customers as k
        inner join public.stores as st on st.id = k.store_id
        left join lateral (
            select
                o.currency,
                count(*) as orders,
                -- A shop that cancels lines lowers the total, and refunds what was paid above it: that is no loss of spend.
                sum(
                    o.total_with_tax - greatest(
                        o.total_refunded + o.refunded_outside - greatest(o.total_paid - o.total_with_tax, 0), 0
                    )
                ) as spent,
                max(o.order_date) as last_order_date
            from (
                select p.*
                from public.customer_orders_summary as p
                where p.customer_id = k.id
                offset 0 -- by the customer and nothing else: a partial index would be read from end to end for each of them
            ) as o
            where o.order_code is not null and o.cancelled_at is null and o.deleted_at is null
            group by o.currency
        ) as t on true
        where k.id = any(p_customers)
        group by k.id, st.currency
    ) as s
    where
        c.id = s.id
        and (c.total_orders, c.total_spent, c.spent_by_currency, c.last_order_date)
        is distinct from (s.total_orders, s.total_spent, s.spent_by_currency, s.last_order_date);
end
$$;

comment on function mirror.refresh_customer_statistics(uuid[]) is
'Counts the orders and the spend of these customers anew. Cancelled and deleted orders do not count; refunds reduce the spend, '
'once, whoever tells of them.';

create or replace function mirror.upsert_orders(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_orders mirror.order_columns
        := jsonb_populate_record(null::mirror.order_columns, p_records -> 'orders');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_items mirror.item_columns
        := jsonb_populate_record(null::mirror.item_columns, p_records -> 'items');
    v_written mirror.written_orders;
    v_actor text;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    if v_orders.source_id is null or v_orders.source_id = '{}' then
        return 0;
    end if;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- An order may arrive before its customer: a bare reference waits for the customer's own state.
    insert into public.customers (store_id, source, source_id, source_version, is_active)
    select v_store_id, v_source, named.source_id, '-infinity', true
    from (
        select distinct r.source_id
        from unnest(v_orders.customer_source_id) as r (source_id)
        where r.source_id is not null
    ) as named
    left join lateral (
        select true as is_there
        from public.customers as c
        where c.store_id = v_store_id and c.source = v_source and c.source_id = named.source_id
        offset 0 -- one look-up each, see mirror.replace_order_items
    ) as known on true
    where known.is_there is null
    order by named.source_id
    on conflict (store_id, source, source_id) do nothing;

    -- What an order takes from its customer must not change before the order is there to be changed with it.
    perform mirror.lock_customers(v_store_id, v_source, v_orders.customer_source_id);

    with written as (
        insert into public.customer_orders_summary as o (
            store_id, source, source_id, source_version, customer_id, order_code, order_state, order_date,
            delivery_stage, tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total,
            total_with_tax, total_paid, total_refunded, coupon_codes, shipping_method, shipping_address,
            billing_address, contact_name, contact_phone, contact_email, custom_fields, cancelled_at,
            source_delivery_stage, source_tracking_number, source_hash
        )
        select
            v_store_id, v_source, r.source_id, r.source_version, c.id, r.order_code, r.order_state, r.order_date,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.payment_method, r.currency,
            r.sub_total, r.shipping, r.tax, r.discount, r.total, r.total_with_tax, r.total_paid,
            r.total_refunded, array(select json_array_elements_text(r.coupon_codes::json)),
            r.shipping_method, r.shipping_address, r.billing_address, r.contact_name, r.contact_phone,
            coalesce(lower(r.contact_email), c.email),
            coalesce(r.custom_fields, '{}'), r.cancelled_at,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.source_hash
        from unnest(
            v_orders.source_id, v_orders.source_version, v_orders.customer_source_id, v_orders.order_code,
            v_orders.order_state, v_orders.order_date, v_orders.delivery_stage, v_orders.tracking_number,
            v_orders.payment_method, v_orders.currency, v_orders.sub_total, v_orders.shipping, v_orders.tax,
            v_orders.discount, v_orders.total, v_orders.total_with_tax, v_orders.total_paid,
            v_orders.total_refunded, v_orders.coupon_codes, v_orders.shipping_method, v_orders.shipping_address,
            v_orders.billing_address, v_orders.contact_name, v_orders.contact_phone, v_orders.contact_email,
            v_orders.custom_fields, v_orders.cancelled_at, v_orders.source_hash
        ) as r (
            source_id, source_version, customer_source_id, order_code, order_state, order_date, delivery_stage,
            tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total, total_with_tax,
            total_paid, total_refunded, coupon_codes, shipping_method, shipping_address, billing_address,
            contact_name, contact_phone, contact_email, custom_fields, cancelled_at, source_hash
        )
        left join lateral (
            select k.id, k.email
            from public.customers as k
            where k.store_id = v_store_id and k.source = v_source and k.source_id = r.customer_source_id
            offset 0 -- one look-up each, see mirror.replace_order_items
        ) as c on true
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            customer_id = excluded.customer_id,
            order_code = excluded.order_code,
            order_state = excluded.order_state,
            order_date = excluded.order_date,
            payment_method = excluded.payment_method,
            currency = excluded.currency,
            sub_total = excluded.sub_total,
            shipping = excluded.shipping,
            tax = excluded.tax,
            discount = excluded.discount,
            total = excluded.total,
            total_with_tax = excluded.total_with_tax,
            total_paid = excluded.total_paid,
            total_refunded = excluded.total_refunded,
            coupon_codes = excluded.coupon_codes,
            shipping_method = excluded.shipping_method,
            shipping_address = excluded.shipping_address,
            billing_address = excluded.billing_address,
            contact_name = excluded.contact_name,
            contact_phone = excluded.contact_phone,
            contact_email = excluded.contact_email,
            custom_fields = excluded.custom_fields,
            cancelled_at = excluded.cancelled_at,
            source_hash = excluded.source_hash,
            -- A deletion that is newer than this state stands: a late update cannot resurrect.
            deleted_at = case when o.deleted_at > excluded.source_version then o.deleted_at end
        where o.source_version < excluded.source_version
        returning o.id, o.source_id, o.source_version, o.currency, o.xmax = 0 as is_new
    )
    select array_agg(w.id), array_agg(w.source_id), array_agg(w.source_version), array_agg(w.currency::text),
        array_agg(w.is_new)
    into v_written
    from written as w;

    if v_written.id is null then
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    perform mirror.replace_order_items(v_store_id, v_written, v_items);
    perform mirror.record_delivery(
        v_store_id, v_source, v_written, v_orders, jsonb_populate_record(null::mirror.stage_columns, p_records -> 'stages')
    );
    perform mirror.record_money(v_store_id, v_source, v_written.id, p_records);
    -- Most stores batch no order but those with a pre-order among their lines.
    if true = any(v_items.is_pre_order) or exists (
        select from public.stores as s where s.id = v_store_id and s.batches_all_orders
    ) then
        perform mirror.batch_pre_orders(v_written.id);
    end if;
    perform mirror.act_as(v_actor);
    return cardinality(v_written.id);
end
$$;

comment on function mirror.upsert_orders(uuid, jsonb) is
'Writes placed orders with all their lines, delivery history and money where they are newer than what is there; returns how many '
'were written. p_records: {"orders": {column: [..]}, "items": {..}, "stages": {..}} with the columns of mirror.order_columns, '
'mirror.item_columns and mirror.stage_columns, and what mirror.record_money takes; a source_id at most once.';

create or replace function mirror.apply_records(p_records json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_records jsonb;
    v_integration_id uuid;
    v_customers integer := 0;
    v_orders integer := 0;
    v_money integer := 0;
    -- As jsonb it is parsed once; of json, each `->` would read the whole slice again.
    v_documents constant jsonb := p_records;
begin
    perform mirror.take_turn(p_together => not coalesce(bool_or(mirror.has_money(r.value)), false))
    from jsonb_array_elements(v_documents) as r;
    for v_records in select r.value from jsonb_array_elements(v_documents) as r loop
        v_integration_id := v_records ->> 'integration_id';
        perform mirror.lock_customers(i.store_id, i.engine, array(
            select jsonb_array_elements_text(v_records #> '{customers,source_id}')
            union all
            select jsonb_array_elements_text(v_records #> '{deleted_customers,source_id}')
            union all
            select jsonb_array_elements_text(v_records #> '{orders,customer_source_id}')
            union all
            select former.source_id
            from (
                select jsonb_array_elements_text(v_records #> '{orders,source_id}') as source_id
                union all
                select jsonb_array_elements_text(v_records #> '{deleted_orders,source_id}')
            ) as told
            cross join lateral (
                select c.source_id
                from public.customer_orders_summary as o
                inner join public.customers as c on c.id = o.customer_id
                where o.store_id = i.store_id and o.source = i.engine and o.source_id = told.source_id
                offset 0 -- one look-up each, see mirror.replace_order_items
            ) as former
        ))
        from mirror.integrations as i
        where i.id = v_integration_id;
        if jsonb_array_length(v_records #> '{deleted_orders,source_id}') > 0 then
            perform mirror.lock_orders(i.store_id, i.engine, array(
                select jsonb_array_elements_text(v_records #> '{orders,source_id}')
                union all
                select jsonb_array_elements_text(v_records #> '{deleted_orders,source_id}')
            ))
            from mirror.integrations as i
            where i.id = v_integration_id;
        end if;
        v_customers := v_customers
            + mirror.upsert_customers(v_integration_id, v_records)
            + mirror.delete_customers(v_integration_id, v_records -> 'deleted_customers');
        -- Deletions first: the code of a deleted order may be another's by now.
        v_orders := v_orders + mirror.delete_orders(v_integration_id, v_records -> 'deleted_orders');
        v_orders := v_orders + mirror.upsert_orders(v_integration_id, v_records);
        if mirror.has_money(v_records) then
            v_money := v_money + mirror.upsert_money(v_integration_id, v_records);
        end if;
    end loop;
    return json_build_object('customers', v_customers, 'orders', v_orders, 'money', v_money);
end
$$;

comment on function mirror.apply_records(json) is
'Writes the records of a slice where they are newer than what is there; returns how many customers, orders and '
'records of a payment provider changed. '
'p_records: a list with, per integration, {"integration_id", "customers", "addresses", "deleted_customers", "orders", "items", '
'"stages", "payments", "refunds", "fulfillments", "order_events", "deleted_orders", and what upsert_money takes} as '
'upsert_customers, delete_customers, upsert_orders and delete_orders take them.';

create or replace function mirror.read_orders(p_integration_id uuid, p_source_ids text[]) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(
        to_jsonb(o)
        || jsonb_build_object(
            'customer_source_id', c.source_id,
            'carrier', s.carrier,
            'delivery_stage', s.stage,
            'tracking_number', s.tracking_number,
            'items', coalesce((
                select jsonb_agg(to_jsonb(t) order by t.source_id)
                from public.customer_order_items as t
                where t.order_summary_id = o.id
            ), '[]'),
            'stages', coalesce(history.told, '[]'),
            'payments', coalesce((
                select jsonb_agg(
                    to_jsonb(p)
                    || jsonb_build_object(
                        'amount', p.shop_amount,
                        'status', p.shop_status,
                        'source_status', p.shop_state,
                        'failure_reason', p.shop_failure_reason,
                        'refunds', coalesce((
                            select jsonb_agg(
                                to_jsonb(f)
                                || jsonb_build_object('amount', f.shop_amount, 'status', f.shop_status, 'source_status', f.shop_state)
                                order by f.source_id
                            )
                            from public.refunds as f
                            where f.payment_id = p.id and f.shop_amount is not null
                        ), '[]')
                    )
                    order by p.source_id
                )
                from public.payments as p
                where p.order_summary_id = o.id and p.shop_amount is not null
            ), '[]'),
            'fulfillments', coalesce((
                select jsonb_agg(to_jsonb(f) order by f.source_id) from public.fulfillments as f where f.order_summary_id = o.id
            ), '[]'),
            'events', coalesce((
                select jsonb_agg(to_jsonb(e) order by e.source_id) from public.order_events as e where e.order_summary_id = o.id
            ), '[]'),
            'echoes', coalesce((
                select jsonb_agg(c.handed_out || jsonb_build_object('source_id', c.change_source_id))
                from mirror.outbox as c
                where c.order_summary_id = o.id and c.change_source_id is not null and c.handed_out = any(history.made_here)
            ), '[]')
        )
    ), '[]')
    from mirror.integrations as i
    inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
    left join public.customers as c on c.id = o.customer_id
    left join public.order_delivery_status as s on s.order_summary_id = o.id
    cross join lateral (
        select
            jsonb_agg(to_jsonb(e) || jsonb_build_object('changed_at', e.updated_at)) filter (where is_engines.is_so) as told,
            array_agg(jsonb_build_object('stage', e.stage, 'tracking_number', e.tracking_number))
            filter (where not is_engines.is_so) as made_here
        from public.order_delivery_status_events as e
        cross join lateral (
            -- A note is the mirror's own, see mirror.complete_history.
            select coalesce(e.actor, 'engine:' || e.updated_by) = 'engine:' || o.source and e.note is null as is_so
        ) as is_engines
        where e.order_summary_id = o.id
    ) as history
    where i.id = p_integration_id and o.source_id = any(p_source_ids) and o.source_version > '-infinity'
$$;

comment on function mirror.read_orders(uuid, text[]) is
'The orders with these ids as the tables have them, each with its items, its delivery status, what the engine told of the '
'history (stages), of payments, fulfilments and its states (events); no bare tombstones. echoes are the '
'changes in the engine''s history that came of what admins have set here: {"source_id", "stage", "tracking_number"}. In the '
'history they are the admins'' own entries.';

create or replace function mirror.follow_changed_orders() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_placed uuid[];
    v_customers uuid[];
    v_ended uuid[];
    v_moved uuid[];
    v_rebatched uuid[];
begin
    -- A full join, though the rows are the same on both sides: only then is it hashed. A plan that was made when one order changed
    -- would compare each row with each when five hundred do.
    select
        array_agg(a.id) filter (where a.order_code is not null and b.order_code is null),
        array_agg(array[a.customer_id, b.customer_id]) filter (
            where (
                a.customer_id, a.order_code, a.currency, a.total_with_tax, a.total_paid, a.total_refunded + a.refunded_outside,
                a.order_date, a.cancelled_at is null, a.deleted_at is null
            ) is distinct from (
                b.customer_id, b.order_code, b.currency, b.total_with_tax, b.total_paid, b.total_refunded + b.refunded_outside,
                b.order_date, b.cancelled_at is null, b.deleted_at is null
            )
        ),
        array_agg(a.id) filter (
            where (a.cancelled_at is null and a.deleted_at is null)
            is distinct from (b.cancelled_at is null and b.deleted_at is null)
        ),
        array_agg(a.id) filter (
            where (a.delivery_stage, a.tracking_number) is distinct from (b.delivery_stage, b.tracking_number)
        ),
        array_agg(a.id) filter (where a.batch_id is distinct from b.batch_id)
    into v_placed, v_customers, v_ended, v_moved, v_rebatched
    from after as a
    full join before as b using (id);

    if v_placed is not null then -- the row was a tombstone
        perform mirror.begin_delivery(v_placed);
    end if;
    if v_customers is not null then
        perform mirror.refresh_customer_statistics(v_customers);
    end if;
    if v_ended is not null then
        perform mirror.follow_cancellations(v_ended);
    end if;
    if v_moved is not null then
        update public.order_delivery_status as s
        set stage = a.delivery_stage, tracking_number = a.tracking_number
        from after as a
        where
            a.id = any(v_moved) and s.order_summary_id = a.id
            and (s.stage, s.tracking_number) is distinct from (a.delivery_stage, a.tracking_number);
    end if;
    if v_rebatched is not null then
        perform mirror.move_to_batch(a.id, a.batch_id) from after as a where a.id = any(v_rebatched);
    end if;
    return null;
end
$$;

comment on function mirror.follow_changed_orders() is
'Trigger: what follows from a change of orders, for their customers, deliveries and batches.';

comment on function mirror.note_part_edit() is
'Trigger: the same for a part of an order (a line, a payment, …) or an address of a customer.';

create function mirror.forget_provider_state() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_table_name = 'payments' then
        update mirror.provider_payments as t
        set source_hash = null
        where t.store_id = old.store_id and t.source_id = old.provider_payment_id;
    else
        update mirror.provider_refunds as t
        set source_hash = null
        where t.store_id = old.store_id and t.source_id = old.stripe_refund_id;
    end if;
    return null;
end
$$;

comment on function mirror.forget_provider_state() is
'Trigger: a payment or refund that was changed by hand is read from its provider anew by the next reconcile.';
revoke execute on function mirror.forget_provider_state() from public;

create function mirror.tell_money(p_order_code text, p_store text default null) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(json_build_object(
        'store', st.slug,
        'order_code', o.order_code,
        'order_state', o.order_state,
        'ordered_at', o.order_date,
        'cancelled_at', o.cancelled_at,
        'currency', o.currency,
        'ordered', o.total_with_tax::text,
        'paid', paid.amount::text,
        'refunded', (o.total_refunded + o.refunded_outside)::text,
        'invoiced', invoiced.amount::text,
        'payments', paid.entries,
        'refunds', refunded.entries,
        'invoices', invoiced.entries,
        'disagreements', to_json(
            paid.disagreements || refunded.disagreements || array(
                select format('paid %s %s, ordered %s', paid.amount, o.currency, o.total_with_tax)
                where paid.amount > 0 and paid.coming < o.total_with_tax
                union all
                select format(
                    'paid %s %s, refunded %s, ordered %s', paid.amount, o.currency, o.total_refunded + o.refunded_outside,
                    o.total_with_tax
                )
                where paid.amount - o.total_refunded - o.refunded_outside > o.total_with_tax
                union all
                select format('invoiced %s %s, ordered %s', invoiced.amount, o.currency, o.total_with_tax)
                where invoiced.amount <> o.total_with_tax
            )
        )
    ) order by st.slug), '[]')
    from public.customer_orders_summary as o
    inner join public.stores as st on st.id = o.store_id
    cross join lateral (
        select
            coalesce(sum(p.amount) filter (where p.status = 'paid' and p.currency = o.currency and p.deleted_at is null), 0) as amount,
            coalesce(sum(p.amount) filter (
                where p.status in ('paid', 'authorized') and p.currency = o.currency and p.deleted_at is null
            ), 0) as coming,
            coalesce(json_agg(json_build_object(
                'id', coalesce(p.provider_payment_id, p.source_id),
                'method', p.method,
                'amount', p.amount::text,
                'currency', p.currency,
                'status', p.status,
                'failure_reason', p.failure_reason,
                'at', coalesce(p.paid_at, p.initiated_at),
                'told_by', array_to_json(array_remove(array[
                    case when p.shop_amount is not null then o.source::text end,
                    case when p.provider_amount is not null then 'stripe' end
                ], null)),
                'disagreement', p.disagreement
            ) order by p.initiated_at, p.source_id), '[]') as entries,
            coalesce(array_agg(p.disagreement order by p.initiated_at, p.source_id) filter (where p.disagreement is not null), '{}')
                as disagreements
        from public.payments as p
        where p.order_summary_id = o.id
    ) as paid
    cross join lateral (
        select
            coalesce(json_agg(json_build_object(
                'id', coalesce(r.stripe_refund_id, r.source_id),
                'amount', r.amount::text,
                'currency', r.currency,
                'status', r.status,
                'reason', r.reason,
                'failure_reason', r.failure_reason,
                'at', r.initiated_at,
                'told_by', array_to_json(array_remove(array[
                    case when r.shop_amount is not null then o.source::text end,
                    case when r.provider_amount is not null then 'stripe' end
                ], null)),
                'disagreement', r.disagreement
            ) order by r.initiated_at, r.source_id), '[]') as entries,
            coalesce(array_agg(r.disagreement order by r.initiated_at, r.source_id) filter (where r.disagreement is not null), '{}')
                as disagreements
        from public.refunds as r
        where r.order_summary_id = o.id
    ) as refunded
    cross join lateral (
        select
            sum(i.total) filter (where i.status in ('open', 'paid') and i.currency = o.currency and i.deleted_at is null) as amount,
            coalesce(json_agg(json_build_object(
                'id', i.source_id,
                'number', i.number,
                'total', i.total::text,
                'currency', i.currency,
                'status', i.status,
                'at', i.issued_at,
                'due_at', i.due_at
            ) order by i.issued_at, i.source_id) filter (where i.deleted_at is null), '[]') as entries
        from public.invoices as i
        where i.order_summary_id = o.id
    ) as invoiced
    where o.order_code = p_order_code and (p_store is null or st.slug = p_store) and o.deleted_at is null
$$;

comment on function mirror.tell_money(text, text) is
'What was ordered, paid, refunded and invoiced of an order, and in what that does not agree: a list with an entry for each store '
'that has an order of the code, or only of the store with that slug.';
revoke execute on function mirror.tell_money(text, text) from public;
grant execute on function mirror.tell_money(text, text) to service_role;

create view mirror.disagreeing_orders
with (security_invoker = true)
as
select k.order_summary_id, min(k.updated_at) as since
from (
    select p.order_summary_id, p.updated_at from public.payments as p where p.disagreement is not null
    union all
    select r.order_summary_id, r.updated_at from public.refunds as r where r.disagreement is not null
) as k
where k.order_summary_id is not null
group by k.order_summary_id;

comment on view mirror.disagreeing_orders is 'Orders about whose payments or refunds shop and payment provider do not agree.';

create or replace view public.orders_needing_attention
with (security_invoker = true)
as
select o.id, o.store_id, o.order_code, u.reason, u.since, o.batch_id, o.delivery_stage
from mirror.undelivered_orders as u
inner join public.customer_orders_summary as o on u.order_summary_id = o.id
union all
select
    o.id, o.store_id, o.order_code, 'cancelled in batch' as reason, coalesce(o.cancelled_at, o.deleted_at) as since, o.batch_id,
    o.delivery_stage
from public.import_batches as b
inner join public.customer_orders_summary as o on b.id = o.batch_id
where b.status <> 'completed' and o.batch_id is not null and (o.cancelled_at is not null or o.deleted_at is not null)
union all
select o.id, o.store_id, o.order_code, 'money disagrees', d.since, o.batch_id, o.delivery_stage
from mirror.disagreeing_orders as d
inner join public.customer_orders_summary as o on d.order_summary_id = o.id
left join public.import_batches as b on o.batch_id = b.id
where
    not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and (o.cancelled_at is null and o.deleted_at is null or b.id is null or b.status = 'completed')
union all
select o.id, o.store_id, o.order_code, 'unpaid', o.order_date, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.customer_orders_summary as o on st.id = o.store_id
where
    o.cancelled_at is null and o.deleted_at is null and o.total_paid < o.total_with_tax
    and o.delivery_stage > 'ORDER_CONFIRMED'
    and (o.delivery_stage = 'DELIVERED' or o.payment_method is null or o.payment_method <> all(st.pay_on_delivery_methods))
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
union all
select o.id, o.store_id, o.order_code, 'no tracking number', s.stage_since, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.order_delivery_status as s on st.id = s.store_id
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
where
    s.stage = 'DISPATCHED' and not s.is_cancelled and s.tracking_number is null
    and (o.total_paid >= o.total_with_tax or o.payment_method = any(st.pay_on_delivery_methods))
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
union all
select o.id, o.store_id, o.order_code, 'stuck', s.stage_since, o.batch_id, o.delivery_stage
from mirror.stuck_deliveries as s
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
inner join public.stores as st on s.store_id = st.id
where
    (s.stage <> 'DISPATCHED' or s.tracking_number is not null)
    and (
        o.total_paid >= o.total_with_tax or o.delivery_stage = 'ORDER_CONFIRMED'
        or o.payment_method = any(st.pay_on_delivery_methods)
    )
    and not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id);

comment on view public.orders_needing_attention is
'Orders that somebody should look at, each once, with the most pressing reason: conflict (shop and mirror have both changed it), '
'not told to the shop (what was set here), cancelled in batch, money disagrees (between shop and payment provider: '
'disagreement in payments and refunds says in what), unpaid (though on its way), '
'no tracking number (though dispatched), stuck (longer at its stage than usual).';

-- What customers read of their money, as `select *`. They may read these columns of the tables and no others, so a view that asks
-- as its reader is what makes `select *` work.

create view public.customer_payments
with (security_invoker = true)
as
select
    p.id, p.order_summary_id, p.customer_id, p.method, p.amount, p.currency, p.status, p.amount_refunded, p.initiated_at,
    p.paid_at
from public.payments as p;

comment on view public.customer_payments is 'payments, as customers may read their own.';

create view public.customer_refunds
with (security_invoker = true)
as
select r.id, r.payment_id, r.order_summary_id, r.amount, r.currency, r.status, r.initiated_at
from public.refunds as r;

comment on view public.customer_refunds is 'refunds, as customers may read their own.';

create view public.customer_subscriptions
with (security_invoker = true)
as
select
    s.id, s.customer_id, s.plan_id, p.name as plan_name, p.amount, p.currency, p.billing_interval, p.interval_count,
    p.trial_days, s.status, s.quantity, s.started_at, s.current_period_start, s.current_period_end, s.trial_ends_at,
    s.cancel_at_period_end, s.cancel_at, s.cancelled_at, s.ended_at
from public.subscriptions as s
left join public.subscription_plans as p on s.plan_id = p.id;

comment on view public.customer_subscriptions is 'subscriptions with their plans, as customers may read their own.';

create view public.customer_invoices
with (security_invoker = true)
as
select
    i.id, i.order_summary_id, i.customer_id, i.subscription_id, i.number, i.status, i.currency, i.sub_total, i.tax, i.total,
    i.amount_paid, i.amount_due, i.tax_breakdown, i.issued_at, i.due_at, i.paid_at, i.pdf_url, i.hosted_url
from public.invoices as i;

comment on view public.customer_invoices is 'invoices, as customers may read their own: drafts are not among them.';

-- Orders that are here already: what the stored events said of their payments, as far as the inbox goes back. The others come with
-- the next reconcile, which reads every order anew.

do $$
begin
    create temporary table told_orders on commit drop as
    select
        o.id, o.store_id, o.customer_id, o.source, o.source_version, o.currency, scale(o.total_with_tax) as decimals,
        e.payload::jsonb -> 'data' as data
    from public.customer_orders_summary as o
    inner join mirror.integrations as i on i.store_id = o.store_id and i.engine = o.source
    inner join lateral (
        select k.payload
        from mirror.webhook_events as k
        where
            k.integration_id = i.id and k.entity_id = o.source_id and k.event_type = 'order.changed' and k.state = 'applied'
            and (k.payload ->> 'readAt')::timestamptz = o.source_version
        limit 1
    ) as e on true;

    insert into public.payments (
        store_id, order_summary_id, customer_id, source, source_id, source_version, transaction_id, method, amount,
        currency, status, failure_reason, initiated_at, shop_amount, shop_currency, shop_status, shop_state,
        shop_failure_reason
    )
    select
        o.store_id, o.id, o.customer_id, o.source, p.said ->> 'id', o.source_version,
        nullif(btrim(p.said ->> 'transactionId'), ''), p.said ->> 'method', m.amount, o.currency, m.status,
        nullif(btrim(p.said ->> 'errorMessage'), ''), (p.said ->> 'createdAt')::timestamptz, m.amount, o.currency, m.status,
        p.said ->> 'state', nullif(btrim(p.said ->> 'errorMessage'), '')
    from told_orders as o
    cross join lateral jsonb_array_elements(coalesce(nullif(o.data -> 'payments', 'null'), '[]')) as p (said)
    cross join lateral (
        select
            round((p.said ->> 'amount')::numeric / power(10::numeric, o.decimals), o.decimals) as amount,
            case p.said ->> 'state'
                when 'Authorized' then 'authorized'
                when 'Settled' then 'paid'
                when 'Declined' then 'failed'
                when 'Error' then 'failed'
                when 'Cancelled' then 'cancelled'
                else 'pending'
            end::public.payment_status as status
    ) as m
    on conflict do nothing;

    insert into public.refunds (
        store_id, payment_id, order_summary_id, source, source_id, source_version, transaction_id, amount, currency, status,
        reason, initiated_at, shop_amount, shop_status, shop_state
    )
    select
        o.store_id, k.id, o.id, o.source, coalesce(r.said ->> 'id', (p.said ->> 'id') || '/' || r.position), o.source_version,
        nullif(btrim(r.said ->> 'transactionId'), ''), m.amount, o.currency, m.status, nullif(btrim(r.said ->> 'reason'), ''),
        coalesce((r.said ->> 'createdAt')::timestamptz, k.initiated_at), m.amount, m.status, r.said ->> 'state'
    from told_orders as o
    cross join lateral jsonb_array_elements(coalesce(nullif(o.data -> 'payments', 'null'), '[]')) as p (said)
    cross join lateral jsonb_array_elements(coalesce(nullif(p.said -> 'refunds', 'null'), '[]'))
        with ordinality as r (said, position)
    inner join public.payments as k on k.order_summary_id = o.id and k.source = o.source and k.source_id = p.said ->> 'id'
    cross join lateral (
        select
            round((r.said ->> 'total')::numeric / power(10::numeric, o.decimals), o.decimals) as amount,
            case r.said ->> 'state'
                when 'Settled' then 'succeeded'
                when 'Failed' then 'failed'
                else 'pending'
            end::public.refund_status as status
    ) as m
    on conflict do nothing;
    perform mirror.sum_refunds(array(select f.payment_id from public.refunds as f));

    insert into public.fulfillments (
        store_id, order_summary_id, source_id, source_version, state, method, tracking_number, lines, fulfilled_at
    )
    select
        o.store_id, o.id, f.said ->> 'id', o.source_version, f.said ->> 'state', nullif(btrim(f.said ->> 'method'), ''),
        nullif(btrim(f.said ->> 'trackingCode'), ''),
        coalesce((
            select jsonb_agg(jsonb_build_object('source_id', l.said -> 'orderLineId', 'quantity', l.said -> 'quantity'))
            from jsonb_array_elements(nullif(f.said -> 'lines', 'null')) as l (said)
        ), '[]'),
        (f.said ->> 'createdAt')::timestamptz
    from told_orders as o
    cross join lateral jsonb_array_elements(coalesce(nullif(o.data -> 'fulfillments', 'null'), '[]')) as f (said)
    on conflict do nothing;
end
$$;

create trigger take_turn before insert or update or delete on public.payments
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.refunds
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.fulfillments
for each statement execute function mirror.take_turn_first();

create trigger append_only before update or delete on public.order_events
for each row when (not mirror.is_engine())
execute function mirror.refuse_change();

create trigger note_hand_edit before insert or update on public.payments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.payments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');

create trigger note_hand_edit before insert or update on public.refunds
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.refunds
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');

create trigger note_hand_edit before insert or update on public.fulfillments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.fulfillments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');

create trigger forget_provider_state after update or delete on public.payments
for each row when (not mirror.is_engine() and old.provider_payment_id is not null)
execute function mirror.forget_provider_state();
create trigger forget_provider_state after update or delete on public.refunds
for each row when (not mirror.is_engine() and old.stripe_refund_id is not null)
execute function mirror.forget_provider_state();

create trigger note_hand_edit before update on public.subscription_plans
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('plan');
create trigger note_hand_removal before delete on public.subscription_plans
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('plan');

create trigger note_hand_edit before update on public.subscriptions
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('subscription');
create trigger note_hand_removal before delete on public.subscriptions
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('subscription');

create trigger note_hand_edit before update on public.invoices
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('invoice');
create trigger note_hand_removal before delete on public.invoices
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('invoice');

alter table public.payments enable row level security;
alter table public.payments force row level security;
alter table public.refunds enable row level security;
alter table public.refunds force row level security;
alter table public.fulfillments enable row level security;
alter table public.fulfillments force row level security;
alter table public.order_events enable row level security;
alter table public.order_events force row level security;
alter table public.subscription_plans enable row level security;
alter table public.subscription_plans force row level security;
alter table public.subscriptions enable row level security;
alter table public.subscriptions force row level security;
alter table public.invoices enable row level security;
alter table public.invoices force row level security;
alter table mirror.provider_payments enable row level security;
alter table mirror.provider_payments force row level security;
alter table mirror.provider_refunds enable row level security;
alter table mirror.provider_refunds force row level security;

-- Of these a customer reads some columns only, see 20_grants.sql: the rest is the provider's, or for admins.
create policy "customers read their payments" on public.payments
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null);

create policy "customers read the refunds of their payments" on public.refunds
for select to authenticated
using (payment_id = any(array(select p.id from public.payments as p)) and deleted_at is null);

create policy "customers read their subscriptions" on public.subscriptions
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null and source_version > '-infinity');

create policy "customers read the plans of their subscriptions" on public.subscription_plans
for select to authenticated
using (id = any(array(select s.plan_id from public.subscriptions as s)));

create policy "customers read their invoices" on public.invoices
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null and status <> 'draft');

revoke all on
public.payments,
public.refunds,
public.fulfillments,
public.order_events,
public.subscription_plans,
public.subscriptions,
public.invoices,
public.customer_payments,
public.customer_refunds,
public.customer_subscriptions,
public.customer_invoices
from public, anon, authenticated, service_role;

grant select, insert, update, delete on
public.payments,
public.refunds,
public.fulfillments,
public.order_events,
public.subscription_plans,
public.subscriptions,
public.invoices,
mirror.provider_payments,
mirror.provider_refunds
to service_role;

grant select on
public.customer_payments,
public.customer_refunds,
public.customer_subscriptions,
public.customer_invoices
to authenticated, service_role;
grant select on mirror.disagreeing_orders to service_role;

-- What the views above show, and no more: no provider's ids, no reasons, nothing of what shop and provider disagree about.
grant select (
    id, order_summary_id, customer_id, method, amount, currency, status, amount_refunded, initiated_at, paid_at
) on public.payments to authenticated;
grant select (id, payment_id, order_summary_id, amount, currency, status, initiated_at) on public.refunds to authenticated;
grant select (
    id, customer_id, plan_id, status, quantity, started_at, current_period_start, current_period_end,
    trial_ends_at, cancel_at_period_end, cancel_at, cancelled_at, ended_at
) on public.subscriptions to authenticated;
grant select (id, name, amount, currency, billing_interval, interval_count, trial_days) on public.subscription_plans
to authenticated;
grant select (
    id, order_summary_id, customer_id, subscription_id, number, status, currency, sub_total, tax, total, amount_paid,
    amount_due, tax_breakdown, issued_at, due_at, paid_at, pdf_url, hosted_url
) on public.invoices to authenticated;

-- As pg_catalog.uuidv7() the default of a row is an operation of its insert; mirror.uuid_v7() is a call for each row.
do $$
declare
    v_table regclass;
    v_column name;
begin
    if current_setting('server_version_num')::int < 180000 then
        return;
    end if;
    for v_table, v_column in
        select d.adrelid::regclass, a.attname
        from pg_catalog.pg_attrdef as d
        inner join pg_catalog.pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where pg_get_expr(d.adbin, d.adrelid) = 'mirror.uuid_v7()'
    loop
        execute format('alter table %s alter column %I set default pg_catalog.uuidv7()', v_table, v_column);
    end loop;
end
$$;
