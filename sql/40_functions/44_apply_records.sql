create function mirror.apply_records(p_records json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_records jsonb;
    v_integration_id uuid;
    v_store_id uuid;
    v_source public.commerce_engine;
    v_named jsonb;
    v_told jsonb;
    v_has_money boolean := false;
    v_customers integer := 0;
    v_orders integer := 0;
    v_money integer := 0;
    -- As jsonb it is parsed once; of json, each `->` would read the whole slice again.
    v_documents constant jsonb := p_records;
    v_last constant integer := jsonb_array_length(v_documents) - 1;
begin
    for v_place in 0..v_last loop
        v_has_money := v_has_money or mirror.has_money(v_documents -> v_place);
    end loop;
    perform mirror.take_turn(p_together => not v_has_money);
    for v_place in 0..v_last loop
        v_records := v_documents -> v_place;
        v_integration_id := v_records ->> 'integration_id';
        select i.store_id, i.engine into strict v_store_id, v_source from mirror.integrations as i where i.id = v_integration_id;
        -- The ids by themselves: a plan that is made for a query of all records copies them several times.
        v_named := coalesce(v_records #> '{customers,source_id}', '[]')
            || coalesce(v_records #> '{deleted_customers,source_id}', '[]')
            || coalesce(v_records #> '{orders,customer_source_id}', '[]');
        v_told := coalesce(v_records #> '{orders,source_id}', '[]') || coalesce(v_records #> '{deleted_orders,source_id}', '[]');
        perform mirror.lock_customers(v_store_id, v_source, array(
            select jsonb_array_elements_text(v_named)
            union all
            select former.source_id
            from jsonb_array_elements_text(v_told) as told (source_id)
            cross join lateral (
                select c.source_id
                from public.customer_orders_summary as o
                inner join public.customers as c on c.id = o.customer_id
                where o.store_id = v_store_id and o.source = v_source and o.source_id = told.source_id
                offset 0 -- one look-up each, see mirror.replace_order_items
            ) as former
        ));
        if jsonb_array_length(v_records #> '{deleted_orders,source_id}') > 0 then
            perform mirror.lock_orders(v_store_id, v_source, array(select jsonb_array_elements_text(v_told)));
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
