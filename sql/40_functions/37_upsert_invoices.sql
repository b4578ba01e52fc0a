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
