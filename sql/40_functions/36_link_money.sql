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
