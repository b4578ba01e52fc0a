create function mirror.analyze_grown() returns text[]
language plpgsql security definer
set search_path = ''
set default_statistics_target = '10' -- a sample of 3,000 rows tells a small table from a large one; autovacuum comes later
as $$
declare
    v_pages_more constant integer := 8;
    v_analyzed text[] := '{}';
    v_table regclass;
    v_columns text;
begin
    -- Only what indexes hold: that is what a plan is chosen by, and an order has five times as many columns.
    for v_table, v_columns in
        select c.oid::regclass, (
            select string_agg(distinct format('%I', a.attname), ', ')
            from pg_catalog.pg_index as i
            inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
            where i.indrelid = c.oid
        )
        from pg_catalog.pg_class as c
        where
            c.oid = any(array[
                'public.customers', 'public.customer_addresses', 'public.customer_orders_summary', 'public.customer_order_items',
                'public.order_delivery_status', 'public.order_delivery_status_events', 'public.payments', 'public.refunds',
                'public.fulfillments', 'public.order_events', 'mirror.webhook_events', 'mirror.sync_seen'
            ]::regclass[])
            and pg_catalog.pg_relation_size(c.oid)
            >= v_pages_more * greatest(c.relpages, 1) * current_setting('block_size')::bigint
        order by c.oid
    loop
        execute format('analyze (skip_locked) %s (%s)', v_table, v_columns);
        v_analyzed := v_analyzed || v_table::text;
    end loop;
    return v_analyzed;
end
$$;

comment on function mirror.analyze_grown() is
'Gathers the planner''s statistics of those large tables that have become eight times as large since that was done last; '
'returns their names. Until autovacuum comes, up to a minute after a first load began, Postgres takes them for almost empty, '
'and keeps plans that read all of a store for each row. Runs with its owner''s rights: only a table''s owner may do so.';
revoke execute on function mirror.analyze_grown() from public;
grant execute on function mirror.analyze_grown() to service_role;
