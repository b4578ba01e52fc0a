-- A row knows the digest of the engine's document that it was made from, so that a sweep can tell what differs without reading
-- everything again. What is applied is applied by one function, whether it came by a hook or was asked for.

alter table public.customers add column source_hash text;
comment on column public.customers.source_hash is
'Digest of the engine''s document that the row was made from; empty where that is not known, or the row was changed since.';

alter table public.customer_orders_summary add column source_hash text;
comment on column public.customer_orders_summary.source_hash is
'Digest of the engine''s document that the row was made from; empty where that is not known, or the row was changed since.';

alter type mirror.customer_columns add attribute source_hash text [];
alter type mirror.order_columns add attribute source_hash text [];

create or replace function mirror.upsert_customers(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_customers mirror.customer_columns
        := json_populate_record(null::mirror.customer_columns, p_records -> 'customers');
    v_addresses mirror.address_columns
        := json_populate_record(null::mirror.address_columns, p_records -> 'addresses');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_known jsonb;
    v_deleted text[];
    v_written uuid[];
    v_emails text[];
    v_actor text;
    v_was_overtaken boolean;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- Lock what is there in key order, and remember the addresses that may become free.
    select
        coalesce(jsonb_object_agg(known.source_id, known.email), '{}'),
        array_agg(known.source_id) filter (where known.deleted_at is not null)
    into v_known, v_deleted
    from (
        select c.source_id, c.email, c.deleted_at
        from public.customers as c
        where c.store_id = v_store_id and c.source = v_source and c.source_id = any(v_customers.source_id)
        order by c.source_id
        for no key update
    ) as known;

    with written as (
        insert into public.customers as c (
            store_id, source, source_id, source_version, email, phone_number, phone_as_entered, phone_verified,
            title, first_name, last_name, has_account, email_verified, marketing_consent, group_names,
            custom_fields, registered_at, is_active, source_hash
        )
        select
            v_store_id, v_source, r.source_id, r.source_version, lower(r.email), r.phone_number,
            r.phone_as_entered, coalesce(r.phone_verified, false), r.title, r.first_name, r.last_name,
            coalesce(r.has_account, false), coalesce(r.email_verified, false),
            coalesce(r.marketing_consent, false), mirror.text_array(r.group_names),
            coalesce(r.custom_fields, '{}'), r.registered_at, r.email is null, r.source_hash
        from unnest(
            v_customers.source_id, v_customers.source_version, v_customers.email, v_customers.phone_number,
            v_customers.phone_as_entered, v_customers.phone_verified, v_customers.title, v_customers.first_name,
            v_customers.last_name, v_customers.has_account, v_customers.email_verified,
            v_customers.marketing_consent, v_customers.group_names, v_customers.custom_fields,
            v_customers.registered_at, v_customers.source_hash
        ) as r (
            source_id, source_version, email, phone_number, phone_as_entered, phone_verified, title, first_name,
            last_name, has_account, email_verified, marketing_consent, group_names, custom_fields, registered_at,
            source_hash
        )
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            email = excluded.email,
            phone_number = excluded.phone_number,
            phone_as_entered = excluded.phone_as_entered,
            phone_verified = excluded.phone_verified,
            title = excluded.title,
            first_name = excluded.first_name,
            last_name = excluded.last_name,
            has_account = excluded.has_account,
            email_verified = excluded.email_verified,
            marketing_consent = excluded.marketing_consent,
            group_names = excluded.group_names,
            custom_fields = excluded.custom_fields,
            registered_at = excluded.registered_at,
            source_hash = excluded.source_hash,
            -- A deletion that is newer than this state stands: a late update cannot resurrect.
            deleted_at = case when c.deleted_at > excluded.source_version then c.deleted_at end,
            is_active = case
                when c.deleted_at > excluded.source_version then false
                when excluded.email is null then true
                else c.is_active and c.email is not distinct from excluded.email
            end
        where c.source_version < excluded.source_version
        returning c.id, c.source_id, c.email, c.xmax <> 0 as was_there
    )
    select
        array_agg(distinct w.id),
        array_agg(distinct e.email) filter (
            where e.email is not null
            and (w.email is distinct from (v_known ->> w.source_id) or w.source_id = any(v_deleted))
        ),
        bool_or(w.was_there and not v_known ? w.source_id)
    into v_written, v_emails, v_was_overtaken
    from written as w
    cross join lateral (values (w.email::text), (v_known ->> w.source_id)) as e (email);

    if v_written is null then
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    -- Somebody else brought a customer after we looked: the address that they had before is not known here.
    if v_was_overtaken then
        raise exception 'another transaction brought one of these customers at the same moment'
        using errcode = 'serialization_failure', hint = 'Do the same again.';
    end if;
    if v_emails is not null then
        perform mirror.activate_customers(v_store_id, v_emails);
    end if;
    perform mirror.replace_addresses(v_store_id, v_source, v_written, v_addresses);
    -- An order that was placed under the customer's address is reached under the new one.
    if v_emails is not null then
        update public.customer_orders_summary as o
        set contact_email = c.email
        from public.customers as c
        where
            c.id = any(v_written) and o.customer_id = c.id
            and o.contact_email is not distinct from (v_known ->> c.source_id)
            and o.contact_email is distinct from c.email;
    end if;
    perform mirror.act_as(v_actor);
    return cardinality(v_written);
end
$$;


create or replace function mirror.upsert_orders(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_orders mirror.order_columns
        := json_populate_record(null::mirror.order_columns, p_records -> 'orders');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_written uuid[];
    v_actor text;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- An order may arrive before its customer: a bare reference waits for the customer's own state.
    insert into public.customers (store_id, source, source_id, source_version, is_active)
    select v_store_id, v_source, missing.source_id, '-infinity', true
    from (
        select distinct r.source_id
        from unnest(v_orders.customer_source_id) as r (source_id)
        where r.source_id is not null and not exists (
            select from public.customers as c
            where c.store_id = v_store_id and c.source = v_source and c.source_id = r.source_id
        )
    ) as missing
    order by missing.source_id
    on conflict (store_id, source, source_id) do nothing;

    -- What an order takes from its customer must not change before the order is there to be changed with it.
    perform mirror.lock_customers(v_store_id, v_source, v_orders.customer_source_id);

    with written as (
        insert into public.customer_orders_summary as o (
            store_id, source, source_id, source_version, customer_id, order_code, order_state, order_date,
            delivery_stage, tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total,
            total_with_tax, total_paid, total_refunded, coupon_codes, shipping_method, shipping_address,
            billing_address, contact_name, contact_phone, contact_email, custom_fields, cancelled_at,
            source_delivery_stage, source_tracking_number, source_hash
        )
        select
            v_store_id, v_source, r.source_id, r.source_version, c.id, r.order_code, r.order_state, r.order_date,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.payment_method, r.currency,
            r.sub_total, r.shipping, r.tax, r.discount, r.total, r.total_with_tax, r.total_paid,
            r.total_refunded, mirror.text_array(r.coupon_codes), r.shipping_method, r.shipping_address,
            r.billing_address, r.contact_name, r.contact_phone,
            coalesce(lower(r.contact_email), c.email),
            coalesce(r.custom_fields, '{}'), r.cancelled_at,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.source_hash
        from unnest(
            v_orders.source_id, v_orders.source_version, v_orders.customer_source_id, v_orders.order_code,
            v_orders.order_state, v_orders.order_date, v_orders.delivery_stage, v_orders.tracking_number,
            v_orders.payment_method, v_orders.currency, v_orders.sub_total, v_orders.shipping, v_orders.tax,
            v_orders.discount, v_orders.total, v_orders.total_with_tax, v_orders.total_paid,
            v_orders.total_refunded, v_orders.coupon_codes, v_orders.shipping_method, v_orders.shipping_address,
            v_orders.billing_address, v_orders.contact_name, v_orders.contact_phone, v_orders.contact_email,
            v_orders.custom_fields, v_orders.cancelled_at, v_orders.source_hash
        ) as r (
            source_id, source_version, customer_source_id, order_code, order_state, order_date, delivery_stage,
            tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total, total_with_tax,
            total_paid, total_refunded, coupon_codes, shipping_method, shipping_address, billing_address,
            contact_name, contact_phone, contact_email, custom_fields, cancelled_at, source_hash
        )
        left join public.customers as c
            on c.store_id = v_store_id and c.source = v_source and c.source_id = r.customer_source_id
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
        returning o.id
    )
    select array_agg(id) into v_written from written;

    if v_written is null then
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    perform mirror.replace_order_items(
        v_store_id, v_source, v_written,
        json_populate_record(null::mirror.item_columns, p_records -> 'items')
    );
    perform mirror.record_delivery(
        v_store_id, v_source, v_written,
        v_orders,
        json_populate_record(null::mirror.stage_columns, p_records -> 'stages')
    );
    perform mirror.batch_pre_orders(v_written);
    perform mirror.act_as(v_actor);
    return cardinality(v_written);
end
$$;


create function mirror.apply_records(p_records json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_records json;
    v_integration_id uuid;
    v_customers integer := 0;
    v_orders integer := 0;
begin
    perform mirror.take_turn(p_together => true);
    for v_records in select value from json_array_elements(p_records) loop
        v_integration_id := v_records ->> 'integration_id';
        perform mirror.lock_customers(i.store_id, i.engine, array(
            select json_array_elements_text(v_records #> '{customers,source_id}')
            union
            select json_array_elements_text(v_records #> '{deleted_customers,source_id}')
            union
            select json_array_elements_text(v_records #> '{orders,customer_source_id}')
            union
            select c.source_id
            from public.customer_orders_summary as o
            inner join public.customers as c on c.id = o.customer_id
            where o.store_id = i.store_id and o.source = i.engine and o.source_id in (
                select json_array_elements_text(v_records #> '{orders,source_id}')
                union all
                select json_array_elements_text(v_records #> '{deleted_orders,source_id}')
            )
        ))
        from mirror.integrations as i
        where i.id = v_integration_id;
        if json_array_length(v_records #> '{deleted_orders,source_id}') > 0 then
            perform mirror.lock_orders(i.store_id, i.engine, array(
                select json_array_elements_text(v_records #> '{orders,source_id}')
                union
                select json_array_elements_text(v_records #> '{deleted_orders,source_id}')
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
    end loop;
    return json_build_object('customers', v_customers, 'orders', v_orders);
end
$$;

comment on function mirror.apply_records(json) is
'Writes the records of a slice where they are newer than what is there; returns how many customers and orders changed. '
'p_records: a list with, per integration, {"integration_id", "customers", "addresses", "deleted_customers", "orders", "items", '
'"stages", "deleted_orders"} as upsert_customers, delete_customers, upsert_orders and delete_orders take them.';
revoke execute on function mirror.apply_records(json) from public;
grant execute on function mirror.apply_records(json) to service_role;

create or replace function mirror.apply_events(p_claim uuid, p_records json, p_settlements json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_counts json;
begin
    v_counts := mirror.apply_records(p_records);
    perform mirror.settle_events(p_claim, p_settlements);
    return v_counts;
end
$$;

comment on function mirror.apply_events(uuid, json, json) is
'Applies the records of a slice of events and settles the events, all or nothing; returns how many customers and orders changed. '
'p_records as apply_records takes it; p_settlements as settle_events takes it.';
