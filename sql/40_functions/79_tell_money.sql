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
