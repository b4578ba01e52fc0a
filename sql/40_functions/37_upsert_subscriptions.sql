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
