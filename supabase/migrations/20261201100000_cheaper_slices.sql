-- A slice costs less: ids are drawn once a statement, a part of an order or customer names it and its store by one key, and what a
-- statement before has found is not looked up again. See docs/decisions/0027-parts-name-the-whole-and-its-store-by-one-key.md.

create function mirror.uuid_v7s(p_count integer) returns uuid[]
language plpgsql volatile parallel safe
set search_path = ''
as $$
declare
    v_drawn constant text := mirror.uuid_v7();
    v_head constant text := left(v_drawn, 28);
    v_counter constant bigint := ('x' || right(v_drawn, 8))::bit(32)::bigint & 2147483647; -- with room for what is added
begin
    return array(select (v_head || lpad(to_hex(v_counter + n.nth), 8, '0'))::uuid from generate_series(1, p_count) as n (nth));
end
$$;

comment on function mirror.uuid_v7s(integer) is
'So many new UUIDv7, in their order, for rows that are written together: one is drawn, and its last bits are counted up (RFC '
'9562, 6.2, method 2). To draw one for each row, as a primary key''s default does, costs more than the row''s indexes.';
revoke execute on function mirror.uuid_v7s(integer) from public;
grant execute on function mirror.uuid_v7s(integer) to service_role;

-- What somebody put into another store than the whole belongs to the whole's. No engine does so.
do $$
declare
    v_part regclass;
    v_whole regclass;
    v_key text;
begin
    for v_part, v_whole, v_key in
        select p.part::regclass, p.whole::regclass, p.key
        from (
            values
            ('public.customer_addresses', 'public.customers', 'customer_id'),
            ('public.customer_order_items', 'public.customer_orders_summary', 'order_summary_id'),
            ('public.fulfillments', 'public.customer_orders_summary', 'order_summary_id'),
            ('public.order_events', 'public.customer_orders_summary', 'order_summary_id'),
            ('public.order_delivery_status', 'public.customer_orders_summary', 'order_summary_id'),
            ('public.order_delivery_status_events', 'public.customer_orders_summary', 'order_summary_id')
        ) as p (part, whole, key)
    loop
        execute format('alter table %s disable trigger user', v_part);
        execute format(
            'update %s as p set store_id = w.store_id from %s as w where w.id = p.%I and p.store_id <> w.store_id',
            v_part, v_whole, v_key
        );
        execute format('alter table %s enable trigger user', v_part);
    end loop;
end
$$;

alter table public.customers add unique (id, store_id);
alter table public.customer_orders_summary add unique (id, store_id);

drop index public.customer_addresses_customer_id;
create index customer_addresses_customer_id on public.customer_addresses (customer_id, store_id);
alter table public.customer_addresses
drop constraint customer_addresses_store_id_fkey,
drop constraint customer_addresses_customer_id_fkey,
add foreign key (customer_id, store_id) references public.customers (id, store_id) on delete cascade;

alter table public.customer_order_items
drop constraint customer_order_items_order_summary_id_source_id_key,
drop constraint customer_order_items_store_id_fkey,
drop constraint customer_order_items_order_summary_id_fkey,
add unique (order_summary_id, store_id, source_id),
add foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade;

alter table public.fulfillments
drop constraint fulfillments_order_summary_id_source_id_key,
drop constraint fulfillments_store_id_fkey,
drop constraint fulfillments_order_summary_id_fkey,
add unique (order_summary_id, store_id, source_id),
add foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade;

alter table public.order_events
drop constraint order_events_order_summary_id_source_id_key,
drop constraint order_events_store_id_fkey,
drop constraint order_events_order_summary_id_fkey,
add unique (order_summary_id, store_id, source_id),
add foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade;

alter table public.order_delivery_status_events
drop constraint order_delivery_status_events_order_summary_id_source_id_key,
drop constraint order_delivery_status_events_store_id_fkey,
drop constraint order_delivery_status_events_order_summary_id_fkey,
add unique (order_summary_id, store_id, source_id),
add foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade;

alter table public.order_delivery_status
drop constraint order_delivery_status_order_summary_id_key,
drop constraint order_delivery_status_store_id_fkey,
drop constraint order_delivery_status_order_summary_id_fkey,
add unique (order_summary_id, store_id),
add foreign key (order_summary_id, store_id) references public.customer_orders_summary (id, store_id) on delete cascade;

-- Nothing asks for these: an order's history is short, and most orders are in no batch.
drop index public.order_events_changed_at;
drop index public.order_delivery_status_events_timeline;
drop index public.customer_orders_summary_batch_id;
create index customer_orders_summary_batch_id on public.customer_orders_summary (batch_id) where batch_id is not null;

drop function mirror.replace_addresses(uuid, public.commerce_engine, uuid[], mirror.address_columns);
drop function mirror.lock_customers(uuid, public.commerce_engine, text[]);
alter type mirror.written_customer add attribute source_version timestamptz;
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

create function mirror.replace_addresses(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_written mirror.written_customer[],
    p_addresses mirror.address_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_known constant uuid[] := array(select w.id from unnest(p_written) as w where w.was_there);
begin
    insert into public.customer_addresses as a (
        id, store_id, customer_id, source, source_id, source_version, address_type, is_default, full_name, company,
        street_line_1, street_line_2, city, province, postal_code, country_code, country_name, phone_number,
        phone_as_entered, custom_fields
    )
    select distinct on (r.source_id)
        r.id, p_store_id, r.customer_id, p_source, r.source_id, r.source_version, r.address_type, r.is_default, r.full_name,
        r.company, r.street_line_1, r.street_line_2, r.city, r.province, r.postal_code, r.country_code,
        r.country_name, r.phone_number, r.phone_as_entered, coalesce(r.custom_fields, '{}')
    from (
        select l.*, w.id as customer_id, w.source_version
        from unnest(
            p_addresses.customer_source_id, p_addresses.source_id, p_addresses.address_type, p_addresses.is_default,
            p_addresses.full_name, p_addresses.company, p_addresses.street_line_1, p_addresses.street_line_2,
            p_addresses.city, p_addresses.province, p_addresses.postal_code, p_addresses.country_code,
            p_addresses.country_name, p_addresses.phone_number, p_addresses.phone_as_entered,
            p_addresses.custom_fields, mirror.uuid_v7s(cardinality(p_addresses.source_id))
        ) as l (
            customer_source_id, source_id, address_type, is_default, full_name, company, street_line_1,
            street_line_2, city, province, postal_code, country_code, country_name, phone_number, phone_as_entered,
            custom_fields, id
        )
        full join unnest(p_written) as w on w.source_id = l.customer_source_id
        offset 0 -- hashed, see mirror.replace_order_items
    ) as r
    where r.customer_id is not null and r.source_id is not null
    -- An address that moved may stand in two books of one slice: the newer book has it.
    order by r.source_id, r.source_version desc
    on conflict (store_id, source, source_id) do update set
        customer_id = excluded.customer_id,
        source_version = excluded.source_version,
        address_type = excluded.address_type,
        is_default = excluded.is_default,
        full_name = excluded.full_name,
        company = excluded.company,
        street_line_1 = excluded.street_line_1,
        street_line_2 = excluded.street_line_2,
        city = excluded.city,
        province = excluded.province,
        postal_code = excluded.postal_code,
        country_code = excluded.country_code,
        country_name = excluded.country_name,
        phone_number = excluded.phone_number,
        phone_as_entered = excluded.phone_as_entered,
        custom_fields = excluded.custom_fields
    where a.source_version < excluded.source_version;

    if cardinality(v_known) > 0 then
        delete from public.customer_addresses as a
        using public.customers as c
        where c.id = any(v_known) and a.customer_id = c.id and a.source_version < c.source_version;
    end if;
end
$$;

comment on function mirror.replace_addresses(
    uuid, public.commerce_engine, mirror.written_customer[], mirror.address_columns
) is
'Makes these the address books of the customers p_written, at the customers'' versions: part of upsert_customers.';
revoke execute on function mirror.replace_addresses(
    uuid, public.commerce_engine, mirror.written_customer[], mirror.address_columns
) from public;
grant execute on function mirror.replace_addresses(
    uuid, public.commerce_engine, mirror.written_customer[], mirror.address_columns
) to service_role;

create or replace function mirror.write_customers(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_customers mirror.customer_columns,
    p_fresh text[]
) returns setof mirror.written_customer
language plpgsql
set search_path = ''
as $$
begin
    return query
    insert into public.customers as c (
        id, store_id, source, source_id, source_version, email, phone_number, phone_as_entered, phone_verified,
        title, first_name, last_name, has_account, email_verified, marketing_consent, group_names,
        custom_fields, registered_at, is_active, source_hash
    )
    select
        r.id, p_store_id, p_source, r.source_id, r.source_version, lower(r.email), r.phone_number,
        r.phone_as_entered, coalesce(r.phone_verified, false), r.title, r.first_name, r.last_name,
        coalesce(r.has_account, false), coalesce(r.email_verified, false),
        coalesce(r.marketing_consent, false), array(select json_array_elements_text(r.group_names::json)),
        coalesce(r.custom_fields, '{}'), r.registered_at,
        r.email is null or (lower(r.email) in (select f.email from unnest(p_fresh) as f (email))) is true, r.source_hash
    from unnest(
        p_customers.source_id, p_customers.source_version, p_customers.email, p_customers.phone_number,
        p_customers.phone_as_entered, p_customers.phone_verified, p_customers.title, p_customers.first_name,
        p_customers.last_name, p_customers.has_account, p_customers.email_verified,
        p_customers.marketing_consent, p_customers.group_names, p_customers.custom_fields,
        p_customers.registered_at, p_customers.source_hash, mirror.uuid_v7s(cardinality(p_customers.source_id))
    ) as r (
        source_id, source_version, email, phone_number, phone_as_entered, phone_verified, title, first_name,
        last_name, has_account, email_verified, marketing_consent, group_names, custom_fields, registered_at,
        source_hash, id
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
    returning c.id, c.source_id, c.email::text, c.is_active, c.xmax <> 0, c.source_version;
end
$$;

create or replace function mirror.upsert_customers(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_customers mirror.customer_columns
        := jsonb_populate_record(null::mirror.customer_columns, p_records -> 'customers');
    v_addresses mirror.address_columns
        := jsonb_populate_record(null::mirror.address_columns, p_records -> 'addresses');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_known jsonb;
    v_deleted text[];
    v_written mirror.written_customer[];
    v_ids uuid[];
    v_emails text[];
    v_actor text;
    v_was_overtaken boolean;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    if v_customers.source_id is null or v_customers.source_id = '{}' then
        return 0;
    end if;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- Lock what is there in key order, and remember the addresses that may become free.
    select
        coalesce(jsonb_object_agg(known.source_id, known.email), '{}'),
        array_agg(known.source_id) filter (where known.deleted_at is not null)
    into v_known, v_deleted
    from (
        select found.source_id, found.email, found.deleted_at
        from (select r.source_id from unnest(v_customers.source_id) as r (source_id) order by r.source_id) as wanted
        cross join lateral (
            select c.source_id, c.email, c.deleted_at
            from public.customers as c
            where c.store_id = v_store_id and c.source = v_source and c.source_id = wanted.source_id
            for no key update -- one look-up each, see mirror.replace_order_items
        ) as found
    ) as known;

    -- Who is the first to have an address is active from the start, which saves choosing. Only where all are new: what was locked
    -- above would be locked once more by the block. If another transaction brings the same address, we wait for it and choose.
    if v_known = '{}' then
        begin
            v_written := array(
                select w
                from mirror.write_customers(
                    v_store_id, v_source, v_customers, mirror.fresh_addresses(v_store_id, v_customers.email)
                ) as w
            );
        exception when unique_violation then
            v_written := null;
        end;
    end if;
    if v_written is null then
        v_written := array(select w from mirror.write_customers(v_store_id, v_source, v_customers, '{}') as w);
    end if;

    select
        array_agg(distinct w.id),
        array_agg(distinct e.email) filter (
            where e.email is not null and (w.was_there or not w.is_active)
            and (w.email is distinct from (v_known ->> w.source_id) or w.source_id = any(v_deleted))
        ),
        bool_or(w.was_there and not v_known ? w.source_id)
    into v_ids, v_emails, v_was_overtaken
    from unnest(v_written) as w
    cross join lateral (values (w.email), (v_known ->> w.source_id)) as e (email);

    if v_ids is null then
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
            c.id = any(v_ids) and o.customer_id = c.id
            and o.contact_email is not distinct from (v_known ->> c.source_id)
            and o.contact_email is distinct from c.email;
    end if;
    perform mirror.link_customers(v_store_id, v_ids);
    perform mirror.act_as(v_actor);
    return cardinality(v_ids);
end
$$;

create or replace function mirror.upsert_orders(p_integration_id uuid, p_records jsonb) returns integer
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

create or replace function mirror.replace_order_items(
    p_store_id uuid,
    p_written mirror.written_orders,
    p_items mirror.item_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_known constant uuid[] := array(
        select w.id from unnest(p_written.id, p_written.is_new) as w (id, is_new) where not w.is_new
    );
begin
    insert into public.customer_order_items as i (
        id, store_id, order_summary_id, source_id, source_version, sku, product_name, variant_name, quantity, currency,
        unit_price_with_tax, line_total_with_tax, patch_enabled, patch_type, print_name, print_number,
        is_pre_order, custom_fields
    )
    select
        l.id, p_store_id, l.order_id, l.source_id, l.source_version, l.sku, l.product_name, l.variant_name, l.quantity,
        l.currency, l.unit_price_with_tax, l.line_total_with_tax, coalesce(l.patch_enabled, false), l.patch_type,
        l.print_name, l.print_number, coalesce(l.is_pre_order, false), coalesce(l.custom_fields, '{}')
    from (
        select r.*, w.id as order_id, w.source_version, w.currency
        from unnest(
            p_items.order_source_id, p_items.source_id, p_items.sku, p_items.product_name, p_items.variant_name,
            p_items.quantity, p_items.unit_price_with_tax, p_items.line_total_with_tax, p_items.patch_enabled,
            p_items.patch_type, p_items.print_name, p_items.print_number, p_items.is_pre_order,
            p_items.custom_fields, mirror.uuid_v7s(cardinality(p_items.source_id))
        ) as r (
            order_source_id, source_id, sku, product_name, variant_name, quantity, unit_price_with_tax,
            line_total_with_tax, patch_enabled, patch_type, print_name, print_number, is_pre_order, custom_fields, id
        )
        full join unnest(p_written.id, p_written.source_id, p_written.source_version, p_written.currency)
            as w (id, order_source_id, source_version, currency)
            on w.order_source_id = r.order_source_id
        offset 0 -- a full join is hashed, whatever the planner knows, as long as it stays one
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, store_id, source_id) do update set
        source_version = excluded.source_version,
        sku = excluded.sku,
        product_name = excluded.product_name,
        variant_name = excluded.variant_name,
        quantity = excluded.quantity,
        currency = excluded.currency,
        unit_price_with_tax = excluded.unit_price_with_tax,
        line_total_with_tax = excluded.line_total_with_tax,
        patch_enabled = excluded.patch_enabled,
        patch_type = excluded.patch_type,
        print_name = excluded.print_name,
        print_number = excluded.print_number,
        is_pre_order = excluded.is_pre_order,
        custom_fields = excluded.custom_fields
    where i.source_version < excluded.source_version;

    if cardinality(v_known) > 0 then
        delete from public.customer_order_items as i
        using public.customer_orders_summary as o
        where o.id = any(v_known) and i.order_summary_id = o.id and i.source_version < o.source_version;
    end if;
end
$$;

create or replace function mirror.replace_payments(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_written mirror.written_orders,
    p_payments mirror.payment_columns,
    p_alone text[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.payments as p (
        id, store_id, order_summary_id, customer_id, source, source_id, source_version, transaction_id, provider_payment_id,
        method, amount, currency, status, failure_reason, initiated_at, shop_amount, shop_currency, shop_status,
        shop_state, shop_failure_reason
    )
    select
        l.id, p_store_id, l.order_id, l.customer_id, p_source, l.source_id, l.source_version, l.transaction_id, a.id, l.method,
        l.amount, l.currency, l.status, l.failure_reason, l.initiated_at, l.amount, l.currency, l.status,
        l.source_status, l.failure_reason
    from (
        select r.*, w.id as order_id, w.source_version, w.currency, w.customer_id
        from unnest(
            p_payments.order_source_id, p_payments.source_id, p_payments.method, p_payments.amount, p_payments.status,
            p_payments.source_status, p_payments.transaction_id, p_payments.failure_reason, p_payments.initiated_at,
            mirror.uuid_v7s(cardinality(p_payments.source_id))
        ) as r (
            order_source_id, source_id, method, amount, status, source_status, transaction_id, failure_reason, initiated_at, id
        )
        full join unnest(
            p_written.id, p_written.source_id, p_written.source_version, p_written.currency, p_written.customer_id
        ) as w (id, order_source_id, source_version, currency, customer_id) on w.order_source_id = r.order_source_id
        offset 0 -- hashed, see mirror.replace_order_items
    ) as l
    left join unnest(p_alone) as a (id) on a.id = l.transaction_id
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, source, source_id) do update set
        customer_id = excluded.customer_id,
        source_version = excluded.source_version,
        transaction_id = excluded.transaction_id,
        method = excluded.method,
        -- What the provider says stands: mirror.meet_payments looks at both.
        amount = coalesce(p.provider_amount, excluded.amount),
        currency = coalesce(p.provider_currency, excluded.currency),
        status = coalesce(p.provider_status, excluded.status),
        failure_reason = case when p.provider_status is null then excluded.failure_reason else p.failure_reason end,
        initiated_at = excluded.initiated_at,
        shop_amount = excluded.shop_amount,
        shop_currency = excluded.shop_currency,
        shop_status = excluded.shop_status,
        shop_state = excluded.shop_state,
        shop_failure_reason = excluded.shop_failure_reason
    where p.source_version < excluded.source_version;
end
$$;

create or replace function mirror.replace_fulfillments(
    p_store_id uuid,
    p_written mirror.written_orders,
    p_fulfillments mirror.fulfillment_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.fulfillments as f (
        store_id, order_summary_id, source_id, source_version, state, method, tracking_number, lines, fulfilled_at
    )
    select
        p_store_id, l.order_id, l.source_id, l.source_version, l.state, l.method, l.tracking_number,
        coalesce(l.lines::jsonb, '[]'), l.fulfilled_at
    from (
        select r.*, w.id as order_id, w.source_version
        from unnest(
            p_fulfillments.order_source_id, p_fulfillments.source_id, p_fulfillments.state, p_fulfillments.method,
            p_fulfillments.tracking_number, p_fulfillments.lines, p_fulfillments.fulfilled_at
        ) as r (order_source_id, source_id, state, method, tracking_number, lines, fulfilled_at)
        full join unnest(p_written.id, p_written.source_id, p_written.source_version)
            as w (id, order_source_id, source_version) on w.order_source_id = r.order_source_id
        offset 0
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, store_id, source_id) do update set
        source_version = excluded.source_version,
        state = excluded.state,
        method = excluded.method,
        tracking_number = excluded.tracking_number,
        lines = excluded.lines,
        fulfilled_at = excluded.fulfilled_at
    where f.source_version < excluded.source_version;
end
$$;

create or replace function mirror.add_order_events(
    p_store_id uuid,
    p_written mirror.written_orders,
    p_events mirror.order_event_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_events as e (id, store_id, order_summary_id, source_id, from_state, to_state, changed_at)
    select l.id, p_store_id, l.order_id, l.source_id, l.from_state, l.to_state, l.changed_at
    from (
        select r.*, w.id as order_id
        from unnest(
            p_events.order_source_id, p_events.source_id, p_events.from_state, p_events.to_state, p_events.changed_at,
            mirror.uuid_v7s(cardinality(p_events.source_id))
        ) as r (order_source_id, source_id, from_state, to_state, changed_at, id)
        full join unnest(p_written.id, p_written.source_id) as w (id, order_source_id)
            on w.order_source_id = r.order_source_id
        offset 0
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, store_id, source_id) do update set
        from_state = excluded.from_state,
        to_state = excluded.to_state,
        changed_at = excluded.changed_at
    where (e.from_state, e.to_state, e.changed_at) is distinct from (excluded.from_state, excluded.to_state, excluded.changed_at);
end
$$;

create or replace function mirror.begin_delivery(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_delivery_status (
        store_id, order_summary_id, order_code, stage, tracking_number, updated_by, is_cancelled, confirmed_at
    )
    select
        o.store_id, o.id, o.order_code, o.delivery_stage, o.tracking_number, o.source::text,
        o.cancelled_at is not null or o.deleted_at is not null, o.order_date
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    order by o.source_id
    on conflict (order_summary_id, store_id) do nothing;

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, stage, updated_by, actor, source_id, updated_at
    )
    select
        o.store_id, o.id, o.order_code, 'ORDER_CONFIRMED', o.source::text, (select mirror.current_actor()), 'placed',
        o.order_date
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    on conflict (order_summary_id, store_id, source_id) do nothing;
end
$$;

create or replace function mirror.delete_customers(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions mirror.deletion_columns := jsonb_populate_record(null::mirror.deletion_columns, p_records);
    v_store_id uuid;
    v_source public.commerce_engine;
    v_deleted integer;
    v_emails text[];
    v_actor text;
begin
    if v_deletions.source_id is null or v_deletions.source_id = '{}' then
        return 0;
    end if;
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);

    with deleted as (
        insert into public.customers as c (store_id, source, source_id, source_version, deleted_at)
        select v_store_id, v_source, r.source_id, '-infinity', r.source_version
        from unnest(v_deletions.source_id, v_deletions.source_version) as r (source_id, source_version)
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            deleted_at = excluded.deleted_at,
            is_active = false
        where c.source_version < excluded.deleted_at and coalesce(c.deleted_at < excluded.deleted_at, true)
        returning c.email
    )
    select count(*), array_agg(distinct email) filter (where email is not null)
    into v_deleted, v_emails
    from deleted;

    if v_emails is not null then
        perform mirror.activate_customers(v_store_id, v_emails);
    end if;
    perform mirror.act_as(v_actor);
    return v_deleted;
end
$$;

create or replace function mirror.delete_orders(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions mirror.deletion_columns := jsonb_populate_record(null::mirror.deletion_columns, p_records);
    v_deleted integer;
    v_actor text;
begin
    if v_deletions.source_id is null or v_deletions.source_id = '{}' then
        return 0;
    end if;
    select mirror.act_as('engine:' || i.engine) into v_actor
    from mirror.integrations as i
    where i.id = p_integration_id;

    insert into public.customer_orders_summary as o (store_id, source, source_id, source_version, deleted_at)
    select i.store_id, i.engine, r.source_id, '-infinity', r.source_version
    from mirror.integrations as i
    cross join unnest(v_deletions.source_id, v_deletions.source_version) as r (source_id, source_version)
    where i.id = p_integration_id
    order by r.source_id
    on conflict (store_id, source, source_id) do update set deleted_at = excluded.deleted_at
    where o.source_version < excluded.deleted_at and coalesce(o.deleted_at < excluded.deleted_at, true);
    get diagnostics v_deleted = row_count;
    perform mirror.act_as(v_actor);
    return v_deleted;
end
$$;

create or replace function mirror.record_delivery(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_written mirror.written_orders,
    p_told mirror.order_columns,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_before jsonb;
    v_commanded uuid[] := '{}';
    v_orders uuid[];
begin
    -- Orders of which the engine was told something, or is to be.
    if false = any(p_written.is_new) then
        v_commanded := array(select distinct c.order_summary_id from mirror.outbox as c where c.order_summary_id = any(p_written.id));
    end if;

    -- Of most orders the engine tells no more than that they were placed, or what it told before: they are as they should be.
    v_orders := array(
        select o.id
        from (
            select w.id, w.is_new, r.*
            from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number, p_told.carrier)
                as r (source_id, stage, tracking_number, carrier)
            full join unnest(p_written.id, p_written.source_id, p_written.is_new) as w (id, source_id, is_new)
                on w.source_id = r.source_id
            offset 0 -- hashed, see mirror.replace_order_items
        ) as o
        left join lateral (
            select k.source_delivery_stage, k.source_tracking_number, d.carrier
            from public.customer_orders_summary as k
            left join public.order_delivery_status as d on d.order_summary_id = k.id
            where k.id = o.id and not o.is_new
            offset 0
        ) as known on true
        where
            o.id is not null
            and (
                o.stage is distinct from 'ORDER_CONFIRMED'
                or o.is_new and o.carrier is not null
                or not o.is_new
                and (known.source_delivery_stage, known.source_tracking_number, known.carrier)
                is distinct from (o.stage, o.tracking_number, o.carrier)
                or o.source_id in (
                    select c.order_source_id
                    from unnest(p_stages.order_source_id, p_stages.source_id) as c (order_source_id, source_id)
                    where c.source_id <> 'placed'
                )
                or o.id = any(v_commanded)
            )
    );
    if cardinality(v_orders) = 0 then
        return;
    end if;

    -- Where the orders were, as far as their deliveries did not only begin now.
    select coalesce(jsonb_object_agg(s.order_summary_id, s.stage), '{}') into v_before
    from public.order_delivery_status as s
    where s.order_summary_id = any(v_orders) and s.created_at < now();

    if cardinality(v_commanded) > 0 then
        perform mirror.recognize_commands(v_commanded, p_told, p_stages);
    end if;

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, r.from_stage, r.stage, r.tracking_number, p_source::text,
        (select mirror.current_actor()), r.source_id, r.changed_at
    from unnest(
        p_stages.order_source_id, p_stages.source_id, p_stages.from_stage, p_stages.stage,
        p_stages.tracking_number, p_stages.changed_at
    ) as r (order_source_id, source_id, from_stage, stage, tracking_number, changed_at)
    cross join lateral (
        select k.id, k.store_id, k.order_code
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each: a planner that does not know the table yet would read all orders of the store
    ) as o
    where
        o.id = any(v_orders)
        -- What came of a command is in the history as the admin's.
        and not (o.id = any(v_commanded) and exists (
            select from mirror.outbox as c where c.order_summary_id = o.id and c.change_source_id = r.source_id
        ))
    on conflict (order_summary_id, store_id, source_id) do nothing;

    if cardinality(v_commanded) > 0 then
        perform mirror.merge_deliveries(v_commanded, p_told, p_stages);
        perform mirror.complete_history(v_commanded, v_before);
    end if;

    -- Of all others, what the engine tells counts as soon as it is something else than before, stage and number each for itself.
    with told as (
        select
            o.id, r.stage, r.tracking_number,
            o.source_delivery_stage is distinct from r.stage as has_new_stage,
            o.source_tracking_number is distinct from r.tracking_number as has_new_number
        from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number)
            as r (source_id, stage, tracking_number)
        cross join lateral (
            select k.id, k.source_delivery_stage, k.source_tracking_number
            from public.customer_orders_summary as k
            where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
            offset 0
        ) as o
        where
            o.id = any(v_orders) and o.id <> all(v_commanded)
            and (o.source_delivery_stage, o.source_tracking_number) is distinct from (r.stage, r.tracking_number)
    ), noted as (
        update public.customer_orders_summary as o
        set source_delivery_stage = told.stage, source_tracking_number = told.tracking_number
        from told
        where o.id = told.id
    )
    update public.order_delivery_status as s
    set
        stage = case when told.has_new_stage then told.stage else s.stage end,
        tracking_number = case when told.has_new_number then told.tracking_number else s.tracking_number end,
        note = null,
        updated_by = p_source::text
    from told
    where
        s.order_summary_id = told.id
        and (
            told.has_new_stage and s.stage <> told.stage
            or told.has_new_number and s.tracking_number is distinct from told.tracking_number
        );

    update public.order_delivery_status as s
    set carrier = r.carrier
    from unnest(p_told.source_id, p_told.carrier) as r (source_id, carrier)
    cross join lateral (
        select d.id, k.id as order_summary_id, d.carrier
        from public.customer_orders_summary as k
        inner join public.order_delivery_status as d on d.order_summary_id = k.id
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
        offset 0
    ) as known
    where
        known.order_summary_id = any(v_orders) and known.carrier is distinct from r.carrier and s.id = known.id;

    -- An engine that keeps no history of its own: the reading is when we learned of the stage.
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, coalesce((v_before ->> o.id::text)::public.delivery_stage, latest.stage),
        o.source_delivery_stage, o.source_tracking_number, p_source::text, (select mirror.current_actor()),
        'read ' || to_char(o.source_version at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        o.source_version
    from public.customer_orders_summary as o
    cross join lateral (
        select e.stage
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id and e.updated_by = p_source::text
        order by e.updated_at desc, e.stage desc
        limit 1
    ) as latest
    where o.id = any(v_orders) and o.id <> all(v_commanded) and latest.stage <> o.source_delivery_stage;

    perform mirror.time_stages(v_orders);
end
$$;

create or replace function mirror.follow_new_orders() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_placed constant integer := (select count(*) from after as a where a.order_code is not null);
    v_ids uuid[];
begin
    if v_placed > 0 then
        -- As mirror.begin_delivery, but nobody can have begun it: the orders are only just there.
        v_ids := mirror.uuid_v7s(v_placed);
        insert into public.order_delivery_status (
            id, store_id, order_summary_id, order_code, stage, tracking_number, updated_by, is_cancelled, confirmed_at
        )
        select
            v_ids[row_number() over ()], a.store_id, a.id, a.order_code, a.delivery_stage, a.tracking_number, a.source::text,
            a.cancelled_at is not null or a.deleted_at is not null, a.order_date
        from after as a
        where a.order_code is not null;

        v_ids := mirror.uuid_v7s(v_placed);
        insert into public.order_delivery_status_events (
            id, store_id, order_summary_id, order_code, stage, updated_by, actor, source_id, updated_at
        )
        select
            v_ids[row_number() over ()], a.store_id, a.id, a.order_code, 'ORDER_CONFIRMED', a.source::text, (select mirror.current_actor()), 'placed',
            a.order_date
        from after as a
        where a.order_code is not null;

        perform mirror.refresh_customer_statistics(array_agg(distinct a.customer_id))
        from after as a
        where a.customer_id is not null;
    end if;
    return null;
end
$$;

create or replace function mirror.analyze_grown() returns text[]
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

create or replace function mirror.has_money(p_records jsonb) returns boolean
language sql immutable
set search_path = ''
as $$
    select p_records ?| '{provider_payments,provider_refunds,subscription_plans,subscriptions,invoices,deleted_money}'
$$;

create or replace function mirror.apply_records(p_records json) returns json
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
