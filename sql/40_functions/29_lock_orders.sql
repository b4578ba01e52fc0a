create function mirror.lock_orders(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_source_ids text[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform
    from (
        select distinct r.source_id
        from unnest(p_source_ids) as r (source_id)
        order by r.source_id
    ) as wanted
    cross join lateral (
        select
        from public.customer_orders_summary as o
        where o.store_id = p_store_id and o.source = p_source and o.source_id = wanted.source_id
        for no key update -- one look-up each, see mirror.replace_order_items
    ) as locked;
end
$$;

comment on function mirror.lock_orders(uuid, public.commerce_engine, text[]) is
'Locks these orders in the order of their ids, until the transaction ends: a slice that writes some and then deletes others '
'does so first, as mirror.lock_customers.';
revoke execute on function mirror.lock_orders(uuid, public.commerce_engine, text[]) from public;
grant execute on function mirror.lock_orders(uuid, public.commerce_engine, text[]) to service_role;
