create function mirror.lock_customers(
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
        from public.customers as c
        where c.store_id = p_store_id and c.source = p_source and c.source_id = wanted.source_id
        for no key update -- one look-up each, see mirror.replace_order_items
    ) as locked;
end
$$;

comment on function mirror.lock_customers(uuid, public.commerce_engine, text[]) is
'Locks these customers in the order of their ids, until the transaction ends: whoever writes customers or their orders does so '
'first, and so nobody waits for each other in a circle.';
revoke execute on function mirror.lock_customers(uuid, public.commerce_engine, text[]) from public;
grant execute on function mirror.lock_customers(uuid, public.commerce_engine, text[]) to service_role;
