-- Invoices go to Lexware Office (lexoffice): as bookkeeping vouchers, once each, through an outbox.

-- The outbox to Lexware Office (lexoffice): what is to be booked there, and what became of it. A row per invoice, for ever:
-- Lexware Office knows no idempotency keys, so "once" is kept here, and by the invoice's number there.
--
--     queue ──▶ pending ──claim──▶ pending, leased ──settle──▶ sent ──void or changed later──▶ to_correct
--                ▲  │                    │    └─────────────▶ refused
--                │  └──▶ skipped         └── lease lapses, or 'retry' ──▶ pending
--                └── an admin sets the status, or what was refused changes
--
-- requested_at is set before Lexware Office is asked to create a voucher, and emptied when it is certain what became of it. While
-- it is set nobody decides anything before looking for the voucher, and nobody looks before two minutes have passed.

create type public.lexoffice_sync_status as enum ('pending', 'sent', 'skipped', 'refused', 'to_correct');
comment on type public.lexoffice_sync_status is
'pending: to be booked, now or at available_at. sent: Lexware Office has it. skipped: there is nothing to book. refused: by a '
'guard here, or by Lexware Office. to_correct: it was booked, and has been voided or changed since. Of all but sent, reason '
'says why.';

create table public.lexoffice_sync_logs (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    invoice_id uuid not null unique references public.invoices (id),
    entity_type text not null default 'voucher' check (entity_type in ('voucher')),
    status public.lexoffice_sync_status not null default 'pending',
    reason text,
    voucher_number text,
    voucher_id text,
    payload_hash text,
    invoice_hash text,
    response jsonb,
    attempts integer not null default 0 check (attempts >= 0),
    retry_count integer generated always as (case when attempts > 1 then attempts - 1 else 0 end) stored,
    available_at timestamptz not null default now(),
    claimed_by uuid,
    requested_at timestamptz,
    judged_at timestamptz,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint lexoffice_sync_logs_pending_is_not_settled check ((status = 'pending') = (settled_at is null)),
    constraint lexoffice_sync_logs_settled_is_not_claimed check (status = 'pending' or claimed_by is null),
    constraint lexoffice_sync_logs_refusal_has_reason check (status in ('pending', 'sent') or reason is not null),
    constraint lexoffice_sync_logs_booked_has_voucher check (status not in ('sent', 'to_correct') or voucher_id is not null)
) with (fillfactor = 85);

comment on table public.lexoffice_sync_logs is
'What became of each invoice in Lexware Office. Edit status to try again (pending), to leave out (skipped), or to say that you '
'have corrected a voucher there (sent).';
comment on column public.lexoffice_sync_logs.entity_type is 'What it becomes there: a bookkeeping voucher.';
comment on column public.lexoffice_sync_logs.reason is
'Why it waits, was refused or skipped, or is to be corrected. Of what was sent: who says so, where it was not the mirror.';
comment on column public.lexoffice_sync_logs.voucher_number is 'The invoice''s number, by which the voucher is found there.';
comment on column public.lexoffice_sync_logs.voucher_id is 'The voucher''s id in Lexware Office.';
comment on column public.lexoffice_sync_logs.payload_hash is 'SHA-256 of what was sent, or was to be sent last.';
comment on column public.lexoffice_sync_logs.invoice_hash is 'SHA-256 of the invoice''s number, date and amounts at that time.';
comment on column public.lexoffice_sync_logs.response is
'What Lexware Office answered last: {"status", "body"}. Empty where a guard here has refused it.';
comment on column public.lexoffice_sync_logs.attempts is
'How often it was taken in hand since it was queued, or since an admin set it to pending.';
comment on column public.lexoffice_sync_logs.claimed_by is 'Token of the claim that holds the lease.';
comment on column public.lexoffice_sync_logs.requested_at is
'When Lexware Office was asked to create the voucher, until it is known what became of that.';
comment on column public.lexoffice_sync_logs.judged_at is 'When a guard last looked at it.';

create index lexoffice_sync_logs_pending on public.lexoffice_sync_logs (available_at, id) where status = 'pending';
create index lexoffice_sync_logs_open on public.lexoffice_sync_logs (store_id, status) where status in ('refused', 'to_correct');
create index lexoffice_sync_logs_voucher_number on public.lexoffice_sync_logs (voucher_number);
create index lexoffice_sync_logs_store_id on public.lexoffice_sync_logs (store_id, status);

create trigger touch_updated_at before update on public.lexoffice_sync_logs
for each row execute function mirror.touch_updated_at();

create table mirror.lexoffice_settings (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null unique references public.stores (id) on delete cascade,
    is_active boolean not null default false,
    books_since date,
    category_id uuid not null default '8f8664a8-fd86-11e1-a21f-0800200c9a66',
    untaxed_category_id uuid,
    is_small_business boolean not null default false,
    tax_rates numeric[] not null default '{19,7,0}' check (cardinality(tax_rates) > 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.lexoffice_settings is
'How a store''s invoices are booked in Lexware Office. A row per store. Nothing is pushed while no daemon has a '
'LEXOFFICE_API_KEY.';
comment on column mirror.lexoffice_settings.is_active is
'Whether this store''s invoices are pushed. There is one account: of several stores, those that it keeps the books of.';
comment on column mirror.lexoffice_settings.books_since is
'Invoices issued on this day (of the store''s time zone) or later are pushed. Empty: a daemon sets it to the day on which it '
'first has a key, so that nothing is booked twice that was booked by hand. An earlier day brings those before it, too.';
comment on column mirror.lexoffice_settings.category_id is
'Lexware Office''s posting category of sales: goods (Warenverkäufe) at first; services are '
'8f8664a0-fd86-11e1-a21f-0800200c9a66.';
comment on column mirror.lexoffice_settings.untaxed_category_id is
'The posting category of what an invoice names no tax for. Empty: such an invoice is refused.';
comment on column mirror.lexoffice_settings.is_small_business is
'A small business (§ 19 UStG): invoices have no VAT, are booked as such, and one with VAT is refused.';
comment on column mirror.lexoffice_settings.tax_rates is
'Per cent of VAT that may be booked. An invoice with another one is refused.';

create trigger touch_updated_at before update on mirror.lexoffice_settings
for each row execute function mirror.touch_updated_at();

insert into mirror.lexoffice_settings (store_id, is_active)
select id, slug = 'default' from public.stores;

create table mirror.lexoffice_pace (
    id boolean primary key default true check (id),
    spacing interval not null default '600 milliseconds' check (spacing between '0' and '1 minute'),
    next_at timestamptz not null default now(),
    strikes integer not null default 0 check (strikes >= 0),
    updated_at timestamptz not null default now()
);

comment on table mirror.lexoffice_pace is
'When Lexware Office may be asked next, whoever asks: it takes 2 requests a second from all of us together. One row.';
comment on column mirror.lexoffice_pace.spacing is
'Between two requests. A little more than half a second: requests that set out evenly do not arrive so.';
comment on column mirror.lexoffice_pace.strikes is 'How often it has said "too many requests" since it last took one.';

create trigger touch_updated_at before update on mirror.lexoffice_pace
for each row execute function mirror.touch_updated_at();

insert into mirror.lexoffice_pace default values;

-- Whether an invoice can be booked in Lexware Office, and as what. Every rule about money is here: what is sent is what is said
-- here, word for word. See docs/lexoffice.md.

create function mirror.is_finished_invoice(p_invoice public.invoices) returns boolean
language sql immutable
set search_path = ''
as $$
    select
        p_invoice.status in ('open', 'paid', 'uncollectible') and p_invoice.deleted_at is null
        and p_invoice.source_version > '-infinity'
$$;

comment on function mirror.is_finished_invoice(public.invoices) is
'Whether an invoice was issued and holds. One that is not paid for was issued all the same: what is lost is booked apart.';
revoke execute on function mirror.is_finished_invoice(public.invoices) from public;
grant execute on function mirror.is_finished_invoice(public.invoices) to service_role;

create function mirror.invoice_hash(p_invoice public.invoices) returns text
language sql immutable
set search_path = ''
as $$
    select encode(sha256(convert_to(jsonb_build_array(
        p_invoice.number, extract(epoch from p_invoice.issued_at), p_invoice.currency,
        trim_scale(p_invoice.total), trim_scale(p_invoice.tax)
    )::text, 'UTF8')), 'hex')
$$;

comment on function mirror.invoice_hash(public.invoices) is
'SHA-256 of what is booked of an invoice: number, time, total and tax. Not of its breakdown: Stripe tells a rate at one time and '
'leaves it out at another.';
revoke execute on function mirror.invoice_hash(public.invoices) from public;
grant execute on function mirror.invoice_hash(public.invoices) to service_role;

create type mirror.tax_share as (rate numeric, taxable numeric, tax numeric);

create function mirror.tax_shares(p_invoice public.invoices, p_rates numeric[]) returns setof mirror.tax_share
language sql immutable
set search_path = ''
as $$
    with told as (
        select
            nullif(s.share ->> 'rate', '')::numeric as rate,
            nullif(s.share ->> 'taxable_amount', '')::numeric as taxable,
            (s.share ->> 'tax')::numeric as tax
        from jsonb_array_elements(p_invoice.tax_breakdown) as s (share)
        union all
        select null, null, p_invoice.tax
        where p_invoice.tax_breakdown = '[]' and p_invoice.tax <> 0
    ),
    filled as (
        -- What one share alone does not say is what the others leave.
        select
            t.rate, t.tax,
            coalesce(
                t.taxable,
                case
                    when count(*) filter (where t.taxable is null) over () = 1
                        then p_invoice.total - sum(t.tax) over () - coalesce(sum(t.taxable) over (), 0)
                end
            ) as taxable
        from told as t
    )
    select coalesce(f.rate, nearest.rate), f.taxable, f.tax
    from filled as f
    left join lateral (
        select r.rate
        from unnest(p_rates) as r (rate)
        where f.taxable is not null
        order by abs(f.taxable * r.rate / 100 - f.tax), r.rate
        limit 1
    ) as nearest on true
$$;

comment on function mirror.tax_shares(public.invoices, numeric[]) is
'What an invoice holds of each tax. A rate that Stripe does not tell is the one of p_rates that comes nearest.';
revoke execute on function mirror.tax_shares(public.invoices, numeric[]) from public;
grant execute on function mirror.tax_shares(public.invoices, numeric[]) to service_role;

create function mirror.object_to_order(p_invoice public.invoices) returns text
language plpgsql stable
set search_path = ''
as $$
declare
    v_order public.customer_orders_summary;
    v_total numeric;
    v_tax numeric;
    v_invoices integer;
begin
    select o.* into v_order from public.customer_orders_summary as o where o.id = p_invoice.order_summary_id;
    select sum(i.total), sum(i.tax), count(*) into v_total, v_tax, v_invoices
    from public.invoices as i
    where i.order_summary_id = p_invoice.order_summary_id and mirror.is_finished_invoice(i);

    return case
        when v_order.id is null then null
        when v_order.currency <> p_invoice.currency
            then format('it is in %s, and order %s is in %s', p_invoice.currency, v_order.order_code, v_order.currency)
        when v_invoices = 1 and v_total <> v_order.total_with_tax
            then format('its total is %s, and that of order %s is %s', v_total, v_order.order_code, v_order.total_with_tax)
        when v_total <> v_order.total_with_tax
            then format(
                'the %s invoices of order %s make %s, and its total is %s',
                v_invoices, v_order.order_code, v_total, v_order.total_with_tax
            )
        when abs(v_tax - v_order.tax) > 0.05
            then format('it holds %s of tax, and order %s holds %s', v_tax, v_order.order_code, v_order.tax)
    end;
end
$$;

comment on function mirror.object_to_order(public.invoices) is
'In what an invoice, with the others of its order, differs from the order; null: in nothing, or it is of none. Shop and payment '
'provider round each line by itself, so a few cents of tax, within the same total, are no difference.';
revoke execute on function mirror.object_to_order(public.invoices) from public;
grant execute on function mirror.object_to_order(public.invoices) to service_role;

create function mirror.object_to_tax(p_invoice public.invoices, p_settings mirror.lexoffice_settings) returns text
language plpgsql stable
set search_path = ''
as $$
declare
    v_shares constant mirror.tax_share [] := array(select s from mirror.tax_shares(p_invoice, p_settings.tax_rates) as s);
    v_share mirror.tax_share;
    v_tax numeric;
    v_total numeric;
begin
    if p_settings.is_small_business then
        return case
            when p_invoice.tax <> 0 then 'it has VAT, and mirror.lexoffice_settings says that the shop is a small business'
        end;
    end if;
    foreach v_share in array v_shares loop
        if v_share.taxable is null then
            return 'it does not say which amount each tax is on';
        elsif v_share.rate <> all(p_settings.tax_rates) then
            return format(
                'it has tax at %s %%, which mirror.lexoffice_settings.tax_rates does not list', trim_scale(v_share.rate)
            );
        elsif abs(v_share.taxable * v_share.rate / 100 - v_share.tax) > 0.05 then
            return format('%s of tax on %s is at no rate that is booked', v_share.tax, v_share.taxable);
        end if;
    end loop;

    select coalesce(sum(s.tax), 0), coalesce(sum(s.taxable + s.tax), 0) into v_tax, v_total from unnest(v_shares) as s;
    return case
        when v_tax <> p_invoice.tax then format('its taxes make %s, and it holds %s of tax', v_tax, p_invoice.tax)
        when v_total = p_invoice.total or p_settings.untaxed_category_id is not null and v_total < p_invoice.total then null
        when cardinality(v_shares) = 0
            then 'it names no tax, and mirror.lexoffice_settings.untaxed_category_id does not say how that is booked'
        when v_total < p_invoice.total
            then format(
                'its taxed parts make %s, its total is %s, and mirror.lexoffice_settings.untaxed_category_id does not say how '
                'the rest is booked', v_total, p_invoice.total
            )
        else format('its parts make %s, and its total is %s', v_total, p_invoice.total)
    end;
end
$$;

comment on function mirror.object_to_tax(public.invoices, mirror.lexoffice_settings) is
'Why an invoice cannot be booked by its taxes: a rate that is not booked, or parts that do not add up; null: it can.';
revoke execute on function mirror.object_to_tax(public.invoices, mirror.lexoffice_settings) from public;
grant execute on function mirror.object_to_tax(public.invoices, mirror.lexoffice_settings) to service_role;

create function mirror.voucher_items(p_invoice public.invoices, p_settings mirror.lexoffice_settings) returns jsonb
language sql stable
set search_path = ''
as $$
    with shares as (
        select s.rate, sum(s.taxable + s.tax) as amount, sum(s.tax) as tax
        from mirror.tax_shares(p_invoice, p_settings.tax_rates) as s
        group by s.rate
    ),
    parts as (
        select
            s.rate, s.amount, s.tax,
            coalesce(case when s.rate = 0 then p_settings.untaxed_category_id end, p_settings.category_id) as category
        from shares as s
        where not p_settings.is_small_business
        union all
        select 0, p_invoice.total - coalesce((select sum(s.amount) from shares as s), 0), 0, p_settings.untaxed_category_id
        where not p_settings.is_small_business
        union all
        -- Lexware Office: "Einnahmen als Kleinunternehmer".
        select 0, p_invoice.total, 0, 'f5c7fee8-f184-4e7a-ab04-8f7e7ad6c207'::uuid
        where p_settings.is_small_business
    ),
    items as (
        select p.rate, p.category, sum(p.amount) as amount, sum(p.tax) as tax
        from parts as p
        where p.amount <> 0
        group by p.rate, p.category
    )
    select coalesce(jsonb_agg(jsonb_build_object(
        'amount', round(i.amount, 2), 'taxAmount', round(i.tax, 2), 'taxRatePercent', trim_scale(i.rate), 'categoryId', i.category
    ) order by i.rate desc, i.category), '[]')
    from items as i
$$;

comment on function mirror.voucher_items(public.invoices, mirror.lexoffice_settings) is
'The positions of a voucher: one for each rate, with amounts that include the tax.';
revoke execute on function mirror.voucher_items(public.invoices, mirror.lexoffice_settings) from public;
grant execute on function mirror.voucher_items(public.invoices, mirror.lexoffice_settings) to service_role;

create function mirror.voucher_payload(p_invoice public.invoices, p_settings mirror.lexoffice_settings) returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'type', 'salesinvoice',
        'voucherNumber', p_invoice.number,
        'voucherDate', (p_invoice.issued_at at time zone s.timezone)::date,
        'dueDate', (greatest(p_invoice.due_at, p_invoice.issued_at) at time zone s.timezone)::date,
        'totalGrossAmount', round(p_invoice.total, 2),
        'totalTaxAmount', round(p_invoice.tax, 2),
        'taxType', 'gross',
        'useCollectiveContact', true,
        'remark', concat_ws(
            ', ', 'Bestellung ' || o.order_code, left(p_invoice.customer_name, 100), 'Stripe ' || p_invoice.source_id
        ),
        'voucherItems', mirror.voucher_items(p_invoice, p_settings)
    ))
    from public.stores as s
    left join public.customer_orders_summary as o on o.id = p_invoice.order_summary_id
    where s.id = p_invoice.store_id
$$;

comment on function mirror.voucher_payload(public.invoices, mirror.lexoffice_settings) is
'An invoice as Lexware Office takes it: the body of POST /v1/vouchers.';
revoke execute on function mirror.voucher_payload(public.invoices, mirror.lexoffice_settings) from public;
grant execute on function mirror.voucher_payload(public.invoices, mirror.lexoffice_settings) to service_role;

create type mirror.invoice_verdict as enum ('book', 'wait', 'refuse', 'skip');
comment on type mirror.invoice_verdict is
'What is to be done with an invoice: book it, wait with it, refuse it, or leave it out.';

create function mirror.judge_invoice(
    p_invoice public.invoices, out verdict mirror.invoice_verdict, out reason text, out payload jsonb
)
language plpgsql stable
set search_path = ''
as $$
declare
    v_settings mirror.lexoffice_settings;
begin
    select s.* into strict v_settings from mirror.lexoffice_settings as s where s.store_id = p_invoice.store_id;
    verdict := 'skip';
    reason := case
        when p_invoice.status = 'void' then 'it was voided before it was booked'
        when not mirror.is_finished_invoice(p_invoice) then 'it is not there any more'
        when p_invoice.total = 0 then 'there is nothing to book: its total is 0'
    end;
    if reason is not null then
        return;
    end if;

    verdict := 'wait';
    if p_invoice.order_summary_id is null and coalesce(p_invoice.order_code, p_invoice.order_source_id) is not null then
        reason := format('its order %s is not here yet', coalesce(p_invoice.order_code, p_invoice.order_source_id));
        return;
    end if;

    verdict := 'refuse';
    reason := case
        when coalesce(p_invoice.number, '') = '' then 'it has no number'
        when p_invoice.issued_at is null then 'it does not say when it was issued'
        when p_invoice.currency <> 'EUR' then format('it is in %s, and Lexware Office keeps its books in EUR', p_invoice.currency)
        when p_invoice.total < 0 then 'its total is negative: book it there as a credit note'
        when (p_invoice.total, p_invoice.tax) <> (round(p_invoice.total, 2), round(p_invoice.tax, 2))
            then 'it holds amounts of less than a cent'
        when exists (
            select from public.lexoffice_sync_logs as l
            where
                l.voucher_number = p_invoice.number and l.invoice_id <> p_invoice.id
                and (l.voucher_id is not null or l.requested_at is not null or l.claimed_by is not null)
        ) then format('another invoice with the number %s was booked already', p_invoice.number)
    end;
    reason := coalesce(reason, mirror.object_to_order(p_invoice), mirror.object_to_tax(p_invoice, v_settings));
    if reason is null then
        verdict := 'book';
        payload := mirror.voucher_payload(p_invoice, v_settings);
    end if;
exception
    when data_exception then
        verdict := 'refuse';
        reason := 'its tax_breakdown cannot be read';
end
$$;

comment on function mirror.judge_invoice(public.invoices) is
'What is to be done with an invoice, and why, in the words that an admin reads; of one to be booked, the voucher.';
revoke execute on function mirror.judge_invoice(public.invoices) from public;
grant execute on function mirror.judge_invoice(public.invoices) to service_role;

-- The outbox to Lexware Office: queue. Its rows and their states are described with public.lexoffice_sync_logs.

create function mirror.why_correct(p_invoice public.invoices, p_invoice_hash text) returns text
language sql immutable
set search_path = ''
as $$
    select case
        when p_invoice.status = 'void' then 'it was voided after it was booked: void the voucher in Lexware Office'
        when p_invoice.deleted_at is not null then 'it was booked, and is gone at the payment provider'
        when mirror.invoice_hash(p_invoice) <> p_invoice_hash then 'it has another number, date or amounts than were booked'
    end
$$;

comment on function mirror.why_correct(public.invoices, text) is
'Why the voucher of an invoice is to be corrected, by hand, in Lexware Office; null: it is right. p_invoice_hash: of what was '
'booked.';
revoke execute on function mirror.why_correct(public.invoices, text) from public;
grant execute on function mirror.why_correct(public.invoices, text) to service_role;

create function mirror.payload_hash(p_payload jsonb) returns text
language sql immutable
set search_path = ''
as $$
    select encode(sha256(convert_to(p_payload::text, 'UTF8')), 'hex')
$$;

comment on function mirror.payload_hash(jsonb) is 'SHA-256 of what is sent to Lexware Office.';
revoke execute on function mirror.payload_hash(jsonb) from public;
grant execute on function mirror.payload_hash(jsonb) to service_role;

create function mirror.queue_invoices(p_invoices uuid[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_known integer;
    v_new integer;
begin
    update public.lexoffice_sync_logs as l
    set
        status = case when l.status = 'sent' then 'to_correct' else l.status end,
        reason = case when l.status = 'sent' then mirror.why_correct(i, l.invoice_hash) else l.reason end,
        settled_at = case when l.status = 'sent' then now() end,
        available_at = case when l.status = 'sent' then l.available_at else now() end
    from public.invoices as i
    where
        l.invoice_id = any(p_invoices) and i.id = l.invoice_id
        and (
            l.status = 'sent' and mirror.why_correct(i, l.invoice_hash) is not null
            -- What it waited for may be here. Whoever has it in hand keeps it.
            or l.status = 'pending' and l.claimed_by is null and l.available_at > now()
        );
    get diagnostics v_known = row_count;

    insert into public.lexoffice_sync_logs (store_id, invoice_id)
    select i.store_id, i.id
    from public.invoices as i
    inner join mirror.lexoffice_settings as t on t.store_id = i.store_id
    inner join public.stores as s on s.id = i.store_id
    where
        i.id = any(p_invoices) and t.is_active and mirror.is_finished_invoice(i)
        and i.issued_at >= t.books_since::timestamp at time zone s.timezone
    order by i.issued_at, i.id
    on conflict (invoice_id) do nothing;
    get diagnostics v_new = row_count;

    if v_known + v_new > 0 then
        perform pg_notify('mirror_lexoffice', '');
    end if;
    return v_new;
end
$$;

comment on function mirror.queue_invoices(uuid[]) is
'Queues those of these invoices that are to be booked and wakes the daemon; notes which of those that are booked must be '
'corrected. '
'Returns how many are new.';
revoke execute on function mirror.queue_invoices(uuid[]) from public;
grant execute on function mirror.queue_invoices(uuid[]) to service_role;

create function mirror.queue_changed_invoices() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.queue_invoices(array(select a.id from after as a where a.status <> 'draft'));
    return null;
end
$$;

comment on function mirror.queue_changed_invoices() is 'Trigger: invoices that were finished, voided or changed.';
revoke execute on function mirror.queue_changed_invoices() from public;

create function mirror.queue_since() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.queue_invoices(array(
        select i.id
        from after as a
        inner join public.stores as s on s.id = a.store_id
        inner join public.invoices as i on i.store_id = a.store_id
        where a.is_active and i.issued_at >= a.books_since::timestamp at time zone s.timezone
    ));
    return null;
end
$$;

comment on function mirror.queue_since() is 'Trigger: invoices that mirror.lexoffice_settings has come to cover.';
revoke execute on function mirror.queue_since() from public;

create function mirror.give_lexoffice_settings() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    insert into mirror.lexoffice_settings (store_id)
    select a.id from after as a
    on conflict (store_id) do nothing;
    return null;
end
$$;

comment on function mirror.give_lexoffice_settings() is
'Trigger: a new store has settings for its books from the start; they are another''s until somebody says so.';
revoke execute on function mirror.give_lexoffice_settings() from public;

create function mirror.reconsider_invoices() returns void
language plpgsql
set search_path = ''
as $$
declare
    v_log public.lexoffice_sync_logs;
    v_invoice public.invoices;
    v_judged record;
begin
    for v_log in
        select l.*
        from public.lexoffice_sync_logs as l
        inner join public.invoices as i on i.id = l.invoice_id
        inner join mirror.lexoffice_settings as t on t.store_id = l.store_id and t.is_active
        left join public.customer_orders_summary as o on o.id = i.order_summary_id
        where
            l.status = 'refused'
            -- A change bears the time at which its transaction began: it may have been hidden when the guard looked.
            and greatest(i.updated_at, o.updated_at, t.updated_at) > l.judged_at - interval '2 minutes'
        for update of l skip locked
    loop
        select i.* into v_invoice from public.invoices as i where i.id = v_log.invoice_id;
        select j.* into v_judged from mirror.judge_invoice(v_invoice) as j;
        -- What Lexware Office has refused is sent again only if it has become something else.
        if v_judged.verdict <> 'refuse'
        and (v_log.response is null or mirror.payload_hash(v_judged.payload) is distinct from v_log.payload_hash) then
            update public.lexoffice_sync_logs as l
            set status = 'pending', reason = null, settled_at = null, available_at = now(), attempts = 0
            where l.id = v_log.id;
        elsif v_log.response is null and v_judged.reason <> v_log.reason then
            update public.lexoffice_sync_logs as l set reason = v_judged.reason, judged_at = now() where l.id = v_log.id;
        end if;
    end loop;
end
$$;

comment on function mirror.reconsider_invoices() is
'Has the guard look again at what was refused, where the invoice, its order or mirror.lexoffice_settings have changed since.';
revoke execute on function mirror.reconsider_invoices() from public;
grant execute on function mirror.reconsider_invoices() to service_role;

create function mirror.guard_push() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_number constant text := coalesce(old.voucher_number, old.invoice_id::text);
    v_kept constant text[] := '{status,updated_at,retry_count}'; -- the last is not computed yet
begin
    if tg_op = 'DELETE' then
        raise exception 'What became of invoice % in Lexware Office cannot be deleted.', v_number
        using errcode = 'restrict_violation', hint = 'Set status to skipped to leave it out.';
    elsif to_jsonb(new) - v_kept is distinct from to_jsonb(old) - v_kept then
        raise exception 'Of lexoffice_sync_logs only status can be edited.'
        using errcode = 'check_violation', hint = 'The rest is kept by the mirror.';
    elsif new.status = old.status then
        return new;
    elsif old.claimed_by is not null or old.status = 'pending' and old.requested_at is not null then
        raise exception 'Invoice % is being pushed to Lexware Office.', v_number
        using errcode = 'object_in_use', hint = 'Look again in a few minutes.';
    elsif new.status = 'pending' then
        new.reason := null;
        new.attempts := 0;
        new.available_at := now();
        new.settled_at := null;
        new.voucher_id := null;
        perform pg_notify('mirror_lexoffice', '');
    elsif new.status = 'skipped' and old.status in ('pending', 'refused') then
        new.reason := 'left out by ' || mirror.current_actor();
        new.settled_at := now();
    elsif new.status = 'sent' and old.status = 'to_correct' then
        new.reason := 'corrected, says ' || mirror.current_actor();
        new.settled_at := now();
        -- It is as it should be now: what changes from here on is to be corrected anew.
        select mirror.invoice_hash(i) into new.invoice_hash from public.invoices as i where i.id = new.invoice_id;
    else
        raise exception 'Invoice % is % in Lexware Office and cannot become %.', v_number, old.status, new.status
        using errcode = 'check_violation',
        hint = 'pending has it tried again; skipped leaves out what was refused; sent says that you have corrected it there.';
    end if;
    return new;
end
$$;

comment on function mirror.guard_push() is 'Trigger: what an admin may say of an invoice''s place in the books.';
revoke execute on function mirror.guard_push() from public;

create function public.push_invoices(number text default null) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_queued integer;
begin
    update public.lexoffice_sync_logs as l
    set status = 'pending'
    where l.status = 'refused' and (push_invoices.number is null or l.voucher_number = push_invoices.number);
    get diagnostics v_queued = row_count;
    return v_queued;
end
$$;

comment on function public.push_invoices(text) is
'Has what was refused pushed to Lexware Office once more, one invoice by its number, or all; returns how many. For after the '
'cause is '
'mended.';
revoke execute on function public.push_invoices(text) from public;
grant execute on function public.push_invoices(text) to service_role;

-- The outbox to Lexware Office: claim, ask, settle.

create function mirror.take_in_hand(p_log public.lexoffice_sync_logs, p_claim uuid, p_lease interval) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_invoice public.invoices;
    v_judged record;
    v_taken jsonb;
    v_wait interval;
begin
    select i.* into strict v_invoice from public.invoices as i where i.id = p_log.invoice_id;
    select j.* into v_judged from mirror.judge_invoice(v_invoice) as j;
    -- Of what may be there already nothing is decided before Lexware Office was asked.
    if v_judged.verdict = 'book' or p_log.requested_at is not null then
        update public.lexoffice_sync_logs as l
        set
            claimed_by = p_claim, available_at = now() + p_lease, attempts = l.attempts + 1, judged_at = now(),
            voucher_number = coalesce(case when l.requested_at is not null then l.voucher_number end, v_invoice.number),
            payload_hash = case when l.requested_at is null then mirror.payload_hash(v_judged.payload) else l.payload_hash end,
            invoice_hash = case when l.requested_at is null then mirror.invoice_hash(v_invoice) else l.invoice_hash end
        where l.id = p_log.id
        returning jsonb_build_object(
            'id', l.id, 'number', l.voucher_number, 'attempts', l.attempts, 'payload', v_judged.payload::text
        )
        into strict v_taken;
        return v_taken;
    end if;

    v_wait := case when v_judged.verdict = 'wait' then mirror.retry_wait('command', p_log.attempts + 1) end;
    update public.lexoffice_sync_logs as l
    set
        status = (case
            when v_wait is not null then 'pending' when v_judged.verdict = 'skip' then 'skipped' else 'refused'
        end)::public.lexoffice_sync_status,
        reason = v_judged.reason, response = null, claimed_by = null, voucher_number = v_invoice.number,
        attempts = l.attempts + 1, judged_at = now(),
        available_at = now() + coalesce(v_wait, '0'),
        settled_at = case when v_wait is null then now() end
    where l.id = p_log.id;
    return null;
end
$$;

comment on function mirror.take_in_hand(public.lexoffice_sync_logs, uuid, interval) is
'Leases an invoice to a claim, or says what becomes of it instead: part of claim_invoices.';
revoke execute on function mirror.take_in_hand(public.lexoffice_sync_logs, uuid, interval) from public;
grant execute on function mirror.take_in_hand(public.lexoffice_sync_logs, uuid, interval) to service_role;

create function mirror.count_pushes(p_logs uuid[]) returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'sent', count(*) filter (where l.status in ('sent', 'to_correct')),
        'skipped', count(*) filter (where l.status = 'skipped'),
        'refused', count(*) filter (where l.status = 'refused'),
        'retried', count(*) filter (where l.status = 'pending' and l.claimed_by is null)
    )
    from public.lexoffice_sync_logs as l
    where l.id = any(p_logs)
$$;

comment on function mirror.count_pushes(uuid[]) is 'How many of these were sent, skipped, refused, or given back for later.';
revoke execute on function mirror.count_pushes(uuid[]) from public;
grant execute on function mirror.count_pushes(uuid[]) to service_role;

create function mirror.claim_invoices(p_claim uuid, p_limit integer, p_lease interval) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_actor constant text := mirror.act_as('engine:lexoffice');
    v_log public.lexoffice_sync_logs;
    v_claimed jsonb := '[]';
    v_due uuid[] := '{}';
begin
    -- One at a time: of two invoices with the same number the second must see the first.
    perform pg_advisory_xact_lock(hashtextextended('commerce-mirror: lexoffice', 0));
    update mirror.lexoffice_settings as t
    set books_since = (now() at time zone s.timezone)::date
    from public.stores as s
    where t.is_active and t.books_since is null and s.id = t.store_id;
    perform mirror.reconsider_invoices();

    for v_log in
        select l.*
        from public.lexoffice_sync_logs as l
        inner join mirror.lexoffice_settings as t on t.store_id = l.store_id and t.is_active
        where
            l.status = 'pending' and l.available_at <= now()
            -- What was asked for may still be under way: Lexware Office gives up after half a minute.
            and (l.requested_at is null or l.requested_at <= now() - interval '2 minutes')
        order by l.available_at, l.id
        limit p_limit
        for update of l skip locked
    loop
        v_due := v_due || v_log.id;
        v_claimed := v_claimed || coalesce(mirror.take_in_hand(v_log, p_claim, p_lease), '[]');
    end loop;
    perform mirror.act_as(v_actor);
    return mirror.count_pushes(v_due) || jsonb_build_object('claimed', v_claimed, 'due', cardinality(v_due));
end
$$;

comment on function mirror.claim_invoices(uuid, integer, interval) is
'Leases up to p_limit due invoices to the claim p_claim (a fresh UUID) for p_lease; those that cannot be booked are refused, '
'skipped '
'or put off instead: {"claimed": [{"id", "number", "attempts", "payload"}], "due", "sent", "skipped", "refused", "retried"}. '
'Without '
'payload it is only to be looked for. What is not settled by the end of the lease may be claimed by anyone.';
revoke execute on function mirror.claim_invoices(uuid, integer, interval) from public;
grant execute on function mirror.claim_invoices(uuid, integer, interval) to service_role;

create function mirror.begin_request(
    p_claim uuid, p_log uuid, p_creates boolean
) returns table (may_ask boolean, wait_seconds float8)
language plpgsql
set search_path = ''
as $$
declare
    v_actor constant text := mirror.act_as('engine:lexoffice');
    v_lease_ends timestamptz;
    v_at timestamptz;
begin
    select l.available_at into v_lease_ends
    from public.lexoffice_sync_logs as l
    where l.id = p_log and l.claimed_by = p_claim and l.status = 'pending'
    for update;
    select greatest(p.next_at, clock_timestamp()) into strict v_at from mirror.lexoffice_pace as p for update;

    wait_seconds := extract(epoch from v_at - clock_timestamp());
    may_ask := coalesce(wait_seconds <= 30 and v_at + interval '1 minute' <= v_lease_ends, false);
    if may_ask then
        update mirror.lexoffice_pace as p set next_at = v_at + p.spacing;
        if p_creates then
            update public.lexoffice_sync_logs as l set requested_at = v_at where l.id = p_log;
        end if;
    end if;
    perform mirror.act_as(v_actor);
    return next;
end
$$;

comment on function mirror.begin_request(uuid, uuid, boolean) is
'Gives whoever holds the claim a turn to ask Lexware Office, wait_seconds from now; p_creates: to create the voucher, which is '
'noted '
'first. Not may_ask: the lease is over or will be soon, or all must wait for so long.';
revoke execute on function mirror.begin_request(uuid, uuid, boolean) from public;
grant execute on function mirror.begin_request(uuid, uuid, boolean) to service_role;

create type mirror.push_settlement as (
    id uuid [],
    outcome text [],
    reason text [],
    voucher_id text [],
    response text [],
    retry_after float8 []
);

create function mirror.settle_invoices(p_claim uuid, p_settlements jsonb) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_actor constant text := mirror.act_as('engine:lexoffice');
    v_settlements constant mirror.push_settlement := jsonb_populate_record(null::mirror.push_settlement, p_settlements);
    v_settled uuid[];
begin
    with settled as (
        update public.lexoffice_sync_logs as l
        set
            status = n.status,
            reason = n.reason,
            voucher_id = case when s.outcome = 'sent' then s.voucher_id else l.voucher_id end,
            response = coalesce(s.response::jsonb, l.response),
            requested_at = case when s.outcome in ('returned', 'unknown') then l.requested_at end,
            attempts = l.attempts - case when s.outcome = 'returned' and l.attempts > 0 then 1 else 0 end,
            claimed_by = null,
            available_at = now() + coalesce(n.wait, '0'),
            settled_at = case when n.status <> 'pending' then now() end
        from unnest(
            v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.voucher_id, v_settlements.response,
            v_settlements.retry_after
        ) as s (id, outcome, reason, voucher_id, response, retry_after)
        inner join public.lexoffice_sync_logs as k on k.id = s.id
        inner join public.invoices as i on i.id = k.invoice_id
        cross join lateral (
            select
                case when s.outcome in ('returned', 'absent', 'retry', 'unknown')
                    then coalesce(make_interval(secs => s.retry_after), mirror.retry_wait('command', k.attempts)) end as wait,
                mirror.why_correct(i, k.invoice_hash) as to_correct
        ) as w
        cross join lateral (
            select
                w.wait,
                (case
                    when w.wait is not null then 'pending'
                    when s.outcome <> 'sent' then 'refused'
                    when w.to_correct is not null then 'to_correct'
                    else 'sent'
                end)::public.lexoffice_sync_status as status,
                case
                    when s.outcome = 'sent' then w.to_correct
                    when s.outcome = 'refused' or w.wait is not null then coalesce(s.reason, k.reason)
                    else format('given up after %s attempts; the last: %s', k.attempts, s.reason)
                end as reason
        ) as n
        where l.id = s.id and l.claimed_by = p_claim and l.status = 'pending'
        returning l.id
    )
    select coalesce(array_agg(s.id), '{}') into v_settled from settled as s;
    if 'sent' = any(v_settlements.outcome) then
        update mirror.lexoffice_pace as p set strikes = 0 where p.strikes > 0;
    end if;
    perform mirror.act_as(v_actor);
    return mirror.count_pushes(v_settled);
end
$$;

comment on function mirror.settle_invoices(uuid, jsonb) is
'Ends the lease of invoices: outcome sent (with voucher_id), refused (with reason), retry (Lexware Office did nothing), '
'unknown (it '
'may have created the voucher), absent (it has none, and was not asked for one) or returned (nothing came of it, and the attempt '
'does not count). The last four come round after so many seconds, or where none are given as mirror.retry_schedule has it for '
'commands. What the claim no longer holds is left alone. Returns how many were sent, skipped, refused and retried.';
revoke execute on function mirror.settle_invoices(uuid, jsonb) from public;
grant execute on function mirror.settle_invoices(uuid, jsonb) to service_role;

create function mirror.slow_lexoffice(p_seconds float8 default null) returns float8
language sql
set search_path = ''
as $$
    update mirror.lexoffice_pace as p
    set
        strikes = least(p.strikes + 1, 10),
        next_at = greatest(
            p.next_at, clock_timestamp() + make_interval(secs => coalesce(p_seconds, least(2 ^ (p.strikes + 1), 120)))
        )
    returning extract(epoch from p.next_at - clock_timestamp())::float8
$$;

comment on function mirror.slow_lexoffice(float8) is
'Lexware Office has had too many requests: nobody asks for p_seconds, or for twice as long as the time before. Returns for how '
'long.';
revoke execute on function mirror.slow_lexoffice(float8) from public;
grant execute on function mirror.slow_lexoffice(float8) to service_role;

create function mirror.count_books() returns table (
    store text, waiting bigint, waiting_since timestamptz, reason text, sent bigint, skipped bigint, refused bigint,
    to_correct bigint, last_refusal text
)
language sql stable
set search_path = ''
as $$
    select
        s.slug,
        count(*) filter (where l.status = 'pending'),
        min(l.created_at) filter (where l.status = 'pending'),
        (array_agg(l.reason order by l.updated_at desc) filter (where l.status = 'pending' and l.reason is not null))[1],
        count(*) filter (where l.status = 'sent'),
        count(*) filter (where l.status = 'skipped'),
        count(*) filter (where l.status = 'refused'),
        count(*) filter (where l.status = 'to_correct'),
        (
            array_agg(format('invoice %s: %s', coalesce(l.voucher_number, '–'), l.reason) order by l.settled_at desc)
            filter (where l.status in ('refused', 'to_correct'))
        )[1]
    from public.lexoffice_sync_logs as l
    inner join public.stores as s on s.id = l.store_id
    group by s.slug
    order by s.slug
$$;

comment on function mirror.count_books() is
'How the books in Lexware Office do, by store: invoices that wait, since when, and why the latest that was tried did not go '
'through; '
'those booked, left out, refused, and to be corrected, and what the last of these two kinds is about. Stores without any are '
'not told of.';
revoke execute on function mirror.count_books() from public;
grant execute on function mirror.count_books() to service_role;

create or replace function mirror.get_status() returns json
language sql stable
set search_path = ''
as $$
    select json_build_object(
        'inbox', (select json_object_agg(c.state, c.events order by c.state) from mirror.count_inbox() as c),
        'lag_seconds', coalesce((
            select extract(epoch from now() - min(e.created_at))::float8
            from mirror.webhook_events as e
            where e.state = 'pending'
        ), 0),
        'dead_letters', coalesce((
            select json_agg(json_build_object(
                'event_id', dead.event_id, 'event_type', dead.event_type, 'entity_id', dead.entity_id,
                'reason', dead.reason, 'settled_at', dead.settled_at
            ))
            from (
                select e.event_id, e.event_type, e.entity_id, e.reason, e.settled_at
                from mirror.webhook_events as e
                where e.state = 'dead'
                order by e.settled_at desc
                limit 10
            ) as dead
        ), '[]'),
        'outbox_waiting', (select count(*) from mirror.outbox as o where o.state = 'pending'),
        'commands', coalesce((select json_agg(c) from mirror.count_commands() as c), '[]'),
        'books', coalesce((select json_agg(b) from mirror.count_books() as b), '[]'),
        'alarms', coalesce((select json_agg(a) from mirror.list_alarms() as a), '[]'),
        'integrations', coalesce((
            select json_agg(json_build_object(
                'slug', h.slug,
                'last_hook_at', h.last_hook_at,
                'silent_seconds', extract(epoch from h.silent)::float8,
                'usual_seconds', extract(epoch from h.usual)::float8,
                'alarm_seconds', extract(epoch from h.alarm_after)::float8,
                'is_silent', h.is_alarm,
                'runs', (
                    select coalesce(json_agg(json_build_object(
                        'kind', k.kind, 'state', l.state, 'reason', l.reason, 'began_at', l.created_at, 'finished_at', l.finished_at,
                        'options', l.options
                    )), '[]')
                    from unnest(array['backfill', 'reconcile']) as k (kind)
                    cross join lateral (
                        select r.state, r.reason, r.created_at, r.finished_at, r.options
                        from mirror.sync_runs as r
                        where r.integration_id = h.integration_id and r.kind = k.kind
                        order by r.id desc
                        limit 1
                    ) as l
                ),
                'drift', (
                    select coalesce(json_agg(json_build_object(
                        'entity', n.entity, 'missing', l.missing, 'stale', l.stale, 'gone', l.gone, 'never_sent', l.never_sent,
                        'differing', l.differing, 'at', l.created_at
                    )), '[]')
                    from unnest(array['customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'])
                        as n (entity)
                    cross join lateral (
                        select d.missing, d.stale, d.gone, d.never_sent, d.differing, d.created_at
                        from mirror.drift as d
                        inner join mirror.sync_runs as r on r.id = d.run_id and r.kind = 'reconcile'
                        where d.integration_id = h.integration_id and d.entity = n.entity
                        order by d.created_at desc
                        limit 1
                    ) as l
                )
            ) order by h.slug)
            from mirror.hook_silence() as h
        ), '[]'),
        'tables', json_build_object(
            'customers', mirror.count_rows('public.customers'),
            'customer_addresses', mirror.count_rows('public.customer_addresses'),
            'customer_orders_summary', mirror.count_rows('public.customer_orders_summary'),
            'customer_order_items', mirror.count_rows('public.customer_order_items'),
            'order_delivery_status', mirror.count_rows('public.order_delivery_status'),
            'order_delivery_status_events', mirror.count_rows('public.order_delivery_status_events')
        )
    )
$$;

comment on function mirror.get_status() is
'How the mirror does: events by state, the age in seconds of the oldest pending one, the newest dead letters, commands that '
'wait, and the way back of each integration, the books in Lexware Office, alarms, the last runs and the drift of each '
'integration, '
'rows per table. Cheap however big the tables are.';
revoke execute on function mirror.get_status() from public;
grant execute on function mirror.get_status() to service_role;

create view mirror.unbooked_orders
with (security_invoker = true)
as
select i.order_summary_id, min(l.settled_at) as since
from public.lexoffice_sync_logs as l
inner join public.invoices as i on l.invoice_id = i.id
where l.status in ('refused', 'to_correct') and i.order_summary_id is not null
group by i.order_summary_id;

comment on view mirror.unbooked_orders is
'Orders with an invoice that Lexware Office does not have, or not as it should, until somebody does something about it, each '
'once.';

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
select o.id, o.store_id, o.order_code, 'not booked', n.since, o.batch_id, o.delivery_stage
from mirror.unbooked_orders as n
inner join public.customer_orders_summary as o on n.order_summary_id = o.id
left join public.import_batches as b on o.batch_id = b.id
where
    not exists (select from mirror.undelivered_orders as u where u.order_summary_id = o.id)
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
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
    and not exists (select from mirror.unbooked_orders as n where n.order_summary_id = o.id)
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
    and not exists (select from mirror.unbooked_orders as n where n.order_summary_id = o.id)
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
    and not exists (select from mirror.disagreeing_orders as d where d.order_summary_id = o.id)
    and not exists (select from mirror.unbooked_orders as n where n.order_summary_id = o.id);

comment on view public.orders_needing_attention is
'Orders that somebody should look at, each once, with the most pressing reason: conflict (shop and mirror have both changed it), '
'not told to the shop (what was set here), cancelled in batch, money disagrees (between shop and payment provider: '
'disagreement in payments and refunds says in what), not booked (an invoice that Lexware Office does not have, or not as it '
'should: lexoffice_sync_logs says why), unpaid (though on its way), '
'no tracking number (though dispatched), stuck (longer at its stage than usual).';

create trigger queue_inserted after insert on public.invoices
referencing new table as after
for each statement execute function mirror.queue_changed_invoices();
create trigger queue_updated after update on public.invoices
referencing new table as after
for each statement execute function mirror.queue_changed_invoices();

create trigger queue_since after update on mirror.lexoffice_settings
referencing new table as after
for each statement execute function mirror.queue_since();

create trigger give_lexoffice_settings after insert on public.stores
referencing new table as after
for each statement execute function mirror.give_lexoffice_settings();

create trigger guard_push before update or delete on public.lexoffice_sync_logs
for each row when (not mirror.is_engine() and pg_trigger_depth() = 0)
execute function mirror.guard_push();

create trigger audit_update after update on public.lexoffice_sync_logs
referencing old table as before new table as after
for each statement when (not mirror.is_engine() and pg_trigger_depth() = 0)
execute function mirror.audit('updated_at', 'attempts', 'available_at');

alter table public.lexoffice_sync_logs enable row level security;
alter table public.lexoffice_sync_logs force row level security;
alter table mirror.lexoffice_settings enable row level security;
alter table mirror.lexoffice_settings force row level security;
alter table mirror.lexoffice_pace enable row level security;
alter table mirror.lexoffice_pace force row level security;

revoke all on public.lexoffice_sync_logs from public, anon, authenticated, service_role;

grant select, insert, update on public.lexoffice_sync_logs to service_role;
grant select, insert, update, delete on mirror.lexoffice_settings to service_role;
grant select, update on mirror.lexoffice_pace to service_role;
grant select on mirror.unbooked_orders to service_role;

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
