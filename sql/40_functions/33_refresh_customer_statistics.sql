create function mirror.refresh_customer_statistics(p_customers uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Locked first, counted in the next statement: whoever waits here sees what the one before has committed.
    perform
    from public.customers as c
    where c.id = any(p_customers)
    order by c.source_id
    for no key update;

    update public.customers as c
    set
        total_orders = s.total_orders,
        total_spent = s.total_spent,
        spent_by_currency = s.spent_by_currency,
        last_order_date = s.last_order_date
    from (
        select
            k.id,
            coalesce(sum(t.orders), 0)::integer as total_orders,
            coalesce(sum(t.spent) filter (where t.currency = st.currency), 0) as total_spent,
            coalesce(jsonb_object_agg(t.currency, t.spent) filter (where t.currency is not null), '{}')
                as spent_by_currency,
            max(t.last_order_date) as last_order_date
        from public.customers as k
        inner join public.stores as st on st.id = k.store_id
        left join lateral (
            select
                o.currency,
                count(*) as orders,
                -- A shop that cancels lines lowers the total, and refunds what was paid above it: that is no loss of spend.
                sum(
                    o.total_with_tax - greatest(
                        o.total_refunded + o.refunded_outside - greatest(o.total_paid - o.total_with_tax, 0), 0
                    )
                ) as spent,
                max(o.order_date) as last_order_date
            from (
                select p.*
                from public.customer_orders_summary as p
                where p.customer_id = k.id
                offset 0 -- by the customer and nothing else: a partial index would be read from end to end for each of them
            ) as o
            where o.order_code is not null and o.cancelled_at is null and o.deleted_at is null
            group by o.currency
        ) as t on true
        where k.id = any(p_customers)
        group by k.id, st.currency
    ) as s
    where
        c.id = s.id
        and (c.total_orders, c.total_spent, c.spent_by_currency, c.last_order_date)
        is distinct from (s.total_orders, s.total_spent, s.spent_by_currency, s.last_order_date);
end
$$;

comment on function mirror.refresh_customer_statistics(uuid[]) is
'Counts the orders and the spend of these customers anew. Cancelled and deleted orders do not count; refunds reduce the spend, '
'once, whoever tells of them.';
revoke execute on function mirror.refresh_customer_statistics(uuid[]) from public;
grant execute on function mirror.refresh_customer_statistics(uuid[]) to service_role;

create function public.update_customer_statistics(customer_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from public.customers as c where c.id = update_customer_statistics.customer_id) then
        raise exception 'There is no customer with the id %.', update_customer_statistics.customer_id
        using
            errcode = 'PT404', -- which the Data API answers 404
            hint = 'Take it from the column id of customers.';
    end if;
    perform mirror.refresh_customer_statistics(array[update_customer_statistics.customer_id]);
end
$$;

comment on function public.update_customer_statistics(uuid) is
'Counts a customer''s orders, spend and last order anew. The mirror does so by itself whenever an order changes.';
revoke execute on function public.update_customer_statistics(uuid) from public;
grant execute on function public.update_customer_statistics(uuid) to service_role;

create function mirror.follow_currency() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.take_turn();
    update public.customers as c
    set total_spent = s.spent
    from (
        select k.id, coalesce((k.spent_by_currency ->> new.currency)::numeric, 0) as spent
        from public.customers as k
        where k.store_id = new.id
    ) as s
    where c.id = s.id and c.total_spent is distinct from s.spent;
    return null;
end
$$;

comment on function mirror.follow_currency() is
'Trigger: of each customer of a store whose currency is another now, total_spent is what was spent in that one.';
revoke execute on function mirror.follow_currency() from public;
