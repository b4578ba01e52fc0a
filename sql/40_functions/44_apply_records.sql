create function mirror.apply_records(p_records json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_records jsonb;
    v_integration_id uuid;
    v_customers integer := 0;
    v_orders integer := 0;
    v_money integer := 0;
    -- As jsonb it is parsed once; of json, each `->` would read the whole slice again.
    v_documents constant jsonb := p_records;
begin
    perform mirror.take_turn(p_together => not coalesce(bool_or(mirror.has_money(r.value)), false))
    from jsonb_array_elements(v_documents) as r;
    for v_records in select r.value from jsonb_array_elements(v_documents) as r loop
        v_integration_id := v_records ->> 'integration_id';
        perform mirror.lock_customers(i.store_id, i.engine, array(
            select jsonb_array_elements_text(v_records #> '{customers,source_id}')
            union all
            select jsonb_array_elements_text(v_records #> '{deleted_customers,source_id}')
            union all
            select jsonb_array_elements_text(v_records #> '{orders,customer_source_id}')
            union all
            select former.source_id
            from (
                select jsonb_array_elements_text(v_records #> '{orders,source_id}') as source_id
                union all
                select jsonb_array_elements_text(v_records #> '{deleted_orders,source_id}')
            ) as told
            cross join lateral (
                select c.source_id
                from public.customer_orders_summary as o
                inner join public.customers as c on c.id = o.customer_id
                where o.store_id = i.store_id and o.source = i.engine and o.source_id = told.source_id
                offset 0 -- one look-up each, see mirror.replace_order_items
            ) as former
        ))
        from mirror.integrations as i
        where i.id = v_integration_id;
        if jsonb_array_length(v_records #> '{deleted_orders,source_id}') > 0 then
            perform mirror.lock_orders(i.store_id, i.engine, array(
                select jsonb_array_elements_text(v_records #> '{orders,source_id}')
                union all
                select jsonb_array_elements_text(v_records #> '{deleted_orders,source_id}')
            ))
            from mirror.integrations as i
            where i.id = v_integration_id;
        end if;
        v_customers := v_customers
            + mirror.upsert_customers(v_integration_id, v_records)
            + mirror.delete_customers(v_integration_id, v_records -> 'deleted_customers');
        -- Deletions first: the code of a deleted order may be another's by now.
        v_orders := v_orders + mirror.delete_orders(v_integration_id, v_records -> 'deleted_orders');
        v_orders := v_orders + mirror.upsert_orders(v_integration_id, v_records);
        if mirror.has_money(v_records) then
            v_money := v_money + mirror.upsert_money(v_integration_id, v_records);
        end if;
    end loop;
    return json_build_object('customers', v_customers, 'orders', v_orders, 'money', v_money);
end
$$;

comment on function mirror.apply_records(json) is
'Writes the records of a slice where they are newer than what is there; returns how many customers, orders and '
'records of a payment provider changed. '
'p_records: a list with, per integration, {"integration_id", "customers", "addresses", "deleted_customers", "orders", "items", '
'"stages", "payments", "refunds", "fulfillments", "order_events", "deleted_orders", and what upsert_money takes} as '
'upsert_customers, delete_customers, upsert_orders and delete_orders take them.';
revoke execute on function mirror.apply_records(json) from public;
grant execute on function mirror.apply_records(json) to service_role;
