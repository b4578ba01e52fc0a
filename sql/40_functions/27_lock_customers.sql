create type mirror.locked_customers as (
    id uuid [],
    source_id text [],
    email text []
);

create function mirror.lock_customers(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_source_ids text[]
) returns mirror.locked_customers
language plpgsql
set search_path = ''
as $$
declare
    v_locked mirror.locked_customers;
begin
    select array_agg(locked.id), array_agg(locked.source_id), array_agg(locked.email) into v_locked
    from (
        select distinct r.source_id
        from unnest(p_source_ids) as r (source_id)
        order by r.source_id
    ) as wanted
    cross join lateral (
        select c.id, c.source_id, c.email::text as email
        from public.customers as c
        where c.store_id = p_store_id and c.source = p_source and c.source_id = wanted.source_id
        for no key update -- one look-up each, see mirror.replace_order_items
    ) as locked;
    return v_locked;
end
$$;

comment on function mirror.lock_customers(uuid, public.commerce_engine, text[]) is
'Locks these customers in the order of their ids, until the transaction ends, and returns those that are here: whoever writes '
'customers or their orders does so first, and so nobody waits for each other in a circle.';
revoke execute on function mirror.lock_customers(uuid, public.commerce_engine, text[]) from public;
grant execute on function mirror.lock_customers(uuid, public.commerce_engine, text[]) to service_role;
