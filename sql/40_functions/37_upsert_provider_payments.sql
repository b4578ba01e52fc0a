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
