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
