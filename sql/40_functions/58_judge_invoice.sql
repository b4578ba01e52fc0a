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
