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
