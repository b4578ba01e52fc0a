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
