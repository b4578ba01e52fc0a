create function mirror.upsert_orders(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_orders mirror.order_columns
        := jsonb_populate_record(null::mirror.order_columns, p_records -> 'orders');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_items mirror.item_columns
        := jsonb_populate_record(null::mirror.item_columns, p_records -> 'items');
    v_customers mirror.locked_customers;
    v_unknown text[];
    v_written mirror.written_orders;
    v_actor text;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    if v_orders.source_id is null or v_orders.source_id = '{}' then
        return 0;
    end if;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- What an order takes from its customer must not change before the order is there to be changed with it.
    v_customers := mirror.lock_customers(v_store_id, v_source, v_orders.customer_source_id);
    -- An order may arrive before its customer: a bare reference waits for the customer's own state.
    v_unknown := array(
        select r.source_id from unnest(v_orders.customer_source_id) as r (source_id) where r.source_id is not null
        except
        select c.source_id from unnest(v_customers.source_id) as c (source_id)
    );
    if cardinality(v_unknown) > 0 then
        insert into public.customers (store_id, source, source_id, source_version, is_active)
        select v_store_id, v_source, u.source_id, '-infinity', true
        from unnest(v_unknown) as u (source_id)
        order by u.source_id
        on conflict (store_id, source, source_id) do nothing;
        v_customers := mirror.lock_customers(v_store_id, v_source, v_orders.customer_source_id);
    end if;

    with written as (
        insert into public.customer_orders_summary as o (
            id, store_id, source, source_id, source_version, customer_id, order_code, order_state, order_date,
            delivery_stage, tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total,
            total_with_tax, total_paid, total_refunded, coupon_codes, shipping_method, shipping_address,
            billing_address, contact_name, contact_phone, contact_email, custom_fields, cancelled_at,
            source_delivery_stage, source_tracking_number, source_hash
        )
        select
            r.id, v_store_id, v_source, r.source_id, r.source_version, r.customer_id, r.order_code, r.order_state, r.order_date,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.payment_method, r.currency,
            r.sub_total, r.shipping, r.tax, r.discount, r.total, r.total_with_tax, r.total_paid,
            r.total_refunded, array(select json_array_elements_text(r.coupon_codes::json)),
            r.shipping_method, r.shipping_address, r.billing_address, r.contact_name, r.contact_phone,
            coalesce(lower(r.contact_email), r.customer_email),
            coalesce(r.custom_fields, '{}'), r.cancelled_at,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.source_hash
        from (
            select l.*, c.id as customer_id, c.email as customer_email
            from unnest(
                v_orders.source_id, v_orders.source_version, v_orders.customer_source_id, v_orders.order_code,
                v_orders.order_state, v_orders.order_date, v_orders.delivery_stage, v_orders.tracking_number,
                v_orders.payment_method, v_orders.currency, v_orders.sub_total, v_orders.shipping, v_orders.tax,
                v_orders.discount, v_orders.total, v_orders.total_with_tax, v_orders.total_paid,
                v_orders.total_refunded, v_orders.coupon_codes, v_orders.shipping_method, v_orders.shipping_address,
                v_orders.billing_address, v_orders.contact_name, v_orders.contact_phone, v_orders.contact_email,
                v_orders.custom_fields, v_orders.cancelled_at, v_orders.source_hash,
                mirror.uuid_v7s(cardinality(v_orders.source_id))
            ) as l (
                source_id, source_version, customer_source_id, order_code, order_state, order_date, delivery_stage,
                tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total, total_with_tax,
                total_paid, total_refunded, coupon_codes, shipping_method, shipping_address, billing_address,
                contact_name, contact_phone, contact_email, custom_fields, cancelled_at, source_hash, id
            )
            full join unnest(v_customers.id, v_customers.source_id, v_customers.email)
                as c (id, customer_source_id, email)
                on c.customer_source_id = l.customer_source_id
            offset 0 -- hashed, see mirror.replace_order_items
        ) as r
        where r.source_id is not null
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            customer_id = excluded.customer_id,
            order_code = excluded.order_code,
            order_state = excluded.order_state,
            order_date = excluded.order_date,
            payment_method = excluded.payment_method,
            currency = excluded.currency,
            sub_total = excluded.sub_total,
            shipping = excluded.shipping,
            tax = excluded.tax,
            discount = excluded.discount,
            total = excluded.total,
            total_with_tax = excluded.total_with_tax,
            total_paid = excluded.total_paid,
            total_refunded = excluded.total_refunded,
            coupon_codes = excluded.coupon_codes,
            shipping_method = excluded.shipping_method,
            shipping_address = excluded.shipping_address,
            billing_address = excluded.billing_address,
            contact_name = excluded.contact_name,
            contact_phone = excluded.contact_phone,
            contact_email = excluded.contact_email,
            custom_fields = excluded.custom_fields,
            cancelled_at = excluded.cancelled_at,
            source_hash = excluded.source_hash,
            -- A deletion that is newer than this state stands: a late update cannot resurrect.
            deleted_at = case when o.deleted_at > excluded.source_version then o.deleted_at end
        where o.source_version < excluded.source_version
        returning o.id, o.source_id, o.source_version, o.currency, o.xmax = 0 as is_new, o.customer_id
    )
    select array_agg(w.id), array_agg(w.source_id), array_agg(w.source_version), array_agg(w.currency::text),
        array_agg(w.is_new), array_agg(w.customer_id)
    into v_written
    from written as w;

    if v_written.id is null then
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    perform mirror.replace_order_items(v_store_id, v_written, v_items);
    perform mirror.record_delivery(
        v_store_id, v_source, v_written, v_orders, jsonb_populate_record(null::mirror.stage_columns, p_records -> 'stages')
    );
    perform mirror.record_money(v_store_id, v_source, v_written, p_records);
    -- Most stores batch no order but those with a pre-order among their lines.
    if true = any(v_items.is_pre_order) or exists (
        select from public.stores as s where s.id = v_store_id and s.batches_all_orders
    ) then
        perform mirror.batch_pre_orders(v_written.id);
    end if;
    perform mirror.act_as(v_actor);
    return cardinality(v_written.id);
end
$$;

comment on function mirror.upsert_orders(uuid, jsonb) is
'Writes placed orders with all their lines, delivery history and money where they are newer than what is there; returns how many '
'were written. p_records: {"orders": {column: [..]}, "items": {..}, "stages": {..}} with the columns of mirror.order_columns, '
'mirror.item_columns and mirror.stage_columns, and what mirror.record_money takes; a source_id at most once.';
revoke execute on function mirror.upsert_orders(uuid, jsonb) from public;
grant execute on function mirror.upsert_orders(uuid, jsonb) to service_role;
