-- Applying at less cost: parts take what they need of their order from the statement that wrote it, what is only just there is
-- not looked for, and what a row's triggers ask is an expression instead of a call.

create type mirror.written_orders as (
    id uuid [],
    source_id text [],
    source_version timestamptz [],
    currency text [],
    is_new boolean []
);
comment on type mirror.written_orders is
'The orders that a call of upsert_orders wrote: what their parts take from them, so that nobody looks them up again.';

create type mirror.written_customer as (
    id uuid,
    source_id text,
    email text,
    is_active boolean,
    was_there boolean
);

drop function mirror.replace_order_items(uuid, public.commerce_engine, uuid[], mirror.item_columns);
drop function mirror.record_delivery(
    uuid, public.commerce_engine, uuid[], mirror.order_columns, mirror.stage_columns
);
drop function mirror.verify_slice(uuid, json);

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
    on conflict (order_summary_id) do nothing;

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, stage, updated_by, actor, source_id, updated_at
    )
    select
        o.store_id, o.id, o.order_code, 'ORDER_CONFIRMED', o.source::text, (select mirror.current_actor()), 'placed',
        o.order_date
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    on conflict (order_summary_id, source_id) do nothing;
end
$$;

comment on function mirror.begin_delivery(uuid[]) is
'Gives orders that are placed by now their delivery status, and the history its beginning, unless they have them.';
revoke execute on function mirror.begin_delivery(uuid[]) from public;
grant execute on function mirror.begin_delivery(uuid[]) to service_role;

create function mirror.fresh_addresses(p_store_id uuid, p_emails text[]) returns text[]
language plpgsql stable
set search_path = ''
as $$
begin
    return array(
        select f.email
        from (
            select lower(r.email) as email
            from unnest(p_emails) as r (email)
            where r.email is not null
            group by lower(r.email)
            having count(*) = 1
        ) as f
        left join lateral (
            select true as is_there
            from public.customers as c
            where c.store_id = p_store_id and c.email = f.email
            limit 1 -- one look-up each, see mirror.lock_customers
        ) as known on true
        where known.is_there is null
    );
end
$$;

comment on function mirror.fresh_addresses(uuid, text[]) is
'Those of these e-mail addresses that stand there once and that no customer of the store has: who brings one may be active '
'from the start.';
revoke execute on function mirror.fresh_addresses(uuid, text[]) from public;
grant execute on function mirror.fresh_addresses(uuid, text[]) to service_role;

create function mirror.write_customers(
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
        store_id, source, source_id, source_version, email, phone_number, phone_as_entered, phone_verified,
        title, first_name, last_name, has_account, email_verified, marketing_consent, group_names,
        custom_fields, registered_at, is_active, source_hash
    )
    select
        p_store_id, p_source, r.source_id, r.source_version, lower(r.email), r.phone_number,
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
        p_customers.registered_at, p_customers.source_hash
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
    returning c.id, c.source_id, c.email::text, c.is_active, c.xmax <> 0;
end
$$;

comment on function mirror.write_customers(uuid, public.commerce_engine, mirror.customer_columns, text[]) is
'Writes the rows of customers where they are newer than what is there, and returns those: part of upsert_customers. New ones '
'with an address of p_fresh are active.';
revoke execute on function mirror.write_customers(uuid, public.commerce_engine, mirror.customer_columns, text[]) from public;
grant execute on function mirror.write_customers(uuid, public.commerce_engine, mirror.customer_columns, text[]) to service_role;

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
    perform mirror.replace_addresses(v_store_id, v_source, v_ids, v_addresses);
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
    perform mirror.act_as(v_actor);
    return cardinality(v_ids);
end
$$;

comment on function mirror.upsert_customers(uuid, jsonb) is
'Writes customers, each with its whole address book, where they are newer than what is there; returns how many were written. '
'p_records: {"customers": {column: [..]}, "addresses": {column: [..]}} with the columns of mirror.customer_columns and '
'mirror.address_columns; a source_id at most once.';
revoke execute on function mirror.upsert_customers(uuid, jsonb) from public;
grant execute on function mirror.upsert_customers(uuid, jsonb) to service_role;

create function mirror.replace_order_items(
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
        store_id, order_summary_id, source_id, source_version, sku, product_name, variant_name, quantity, currency,
        unit_price_with_tax, line_total_with_tax, patch_enabled, patch_type, print_name, print_number,
        is_pre_order, custom_fields
    )
    select
        p_store_id, l.order_id, l.source_id, l.source_version, l.sku, l.product_name, l.variant_name, l.quantity,
        l.currency, l.unit_price_with_tax, l.line_total_with_tax, coalesce(l.patch_enabled, false), l.patch_type,
        l.print_name, l.print_number, coalesce(l.is_pre_order, false), coalesce(l.custom_fields, '{}')
    from (
        select r.*, w.id as order_id, w.source_version, w.currency
        from unnest(
            p_items.order_source_id, p_items.source_id, p_items.sku, p_items.product_name, p_items.variant_name,
            p_items.quantity, p_items.unit_price_with_tax, p_items.line_total_with_tax, p_items.patch_enabled,
            p_items.patch_type, p_items.print_name, p_items.print_number, p_items.is_pre_order,
            p_items.custom_fields
        ) as r (
            order_source_id, source_id, sku, product_name, variant_name, quantity, unit_price_with_tax,
            line_total_with_tax, patch_enabled, patch_type, print_name, print_number, is_pre_order, custom_fields
        )
        full join unnest(p_written.id, p_written.source_id, p_written.source_version, p_written.currency)
            as w (id, order_source_id, source_version, currency)
            on w.order_source_id = r.order_source_id
        offset 0 -- a full join is hashed, whatever the planner knows, as long as it stays one
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, source_id) do update set
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

comment on function mirror.replace_order_items(uuid, mirror.written_orders, mirror.item_columns) is
'Makes these the lines of the orders p_written, at the orders'' versions: part of upsert_orders.';
revoke execute on function mirror.replace_order_items(uuid, mirror.written_orders, mirror.item_columns) from public;
grant execute on function mirror.replace_order_items(uuid, mirror.written_orders, mirror.item_columns) to service_role;

create function mirror.record_delivery(
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
    on conflict (order_summary_id, source_id) do nothing;

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

comment on function mirror.record_delivery(
    uuid, public.commerce_engine, mirror.written_orders, mirror.order_columns, mirror.stage_columns
) is
'Brings delivery status and its history up to what the engine tells of the orders p_written: part of upsert_orders.';
revoke execute on function mirror.record_delivery(
    uuid, public.commerce_engine, mirror.written_orders, mirror.order_columns, mirror.stage_columns
) from public;
grant execute on function mirror.record_delivery(
    uuid, public.commerce_engine, mirror.written_orders, mirror.order_columns, mirror.stage_columns
) to service_role;

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

    -- An order may arrive before its customer: a bare reference waits for the customer's own state.
    insert into public.customers (store_id, source, source_id, source_version, is_active)
    select v_store_id, v_source, named.source_id, '-infinity', true
    from (
        select distinct r.source_id
        from unnest(v_orders.customer_source_id) as r (source_id)
        where r.source_id is not null
    ) as named
    left join lateral (
        select true as is_there
        from public.customers as c
        where c.store_id = v_store_id and c.source = v_source and c.source_id = named.source_id
        offset 0 -- one look-up each, see mirror.replace_order_items
    ) as known on true
    where known.is_there is null
    order by named.source_id
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
            r.total_refunded, array(select json_array_elements_text(r.coupon_codes::json)),
            r.shipping_method, r.shipping_address, r.billing_address, r.contact_name, r.contact_phone,
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
        left join lateral (
            select k.id, k.email
            from public.customers as k
            where k.store_id = v_store_id and k.source = v_source and k.source_id = r.customer_source_id
            offset 0 -- one look-up each, see mirror.replace_order_items
        ) as c on true
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
        returning o.id, o.source_id, o.source_version, o.currency, o.xmax = 0 as is_new
    )
    select array_agg(w.id), array_agg(w.source_id), array_agg(w.source_version), array_agg(w.currency::text),
        array_agg(w.is_new)
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
'Writes placed orders with all their lines and delivery history where they are newer than what is there; returns how many were '
'written. p_records: {"orders": {column: [..]}, "items": {..}, "stages": {..}} with the columns of mirror.order_columns, '
'mirror.item_columns and mirror.stage_columns; a source_id at most once.';
revoke execute on function mirror.upsert_orders(uuid, jsonb) from public;
grant execute on function mirror.upsert_orders(uuid, jsonb) to service_role;

create or replace function mirror.follow_new_orders() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if exists (select from after as a where a.order_code is not null) then
        -- As mirror.begin_delivery, but nobody can have begun it: the orders are only just there.
        insert into public.order_delivery_status (
            store_id, order_summary_id, order_code, stage, tracking_number, updated_by, is_cancelled, confirmed_at
        )
        select
            a.store_id, a.id, a.order_code, a.delivery_stage, a.tracking_number, a.source::text,
            a.cancelled_at is not null or a.deleted_at is not null, a.order_date
        from after as a
        where a.order_code is not null;

        insert into public.order_delivery_status_events (
            store_id, order_summary_id, order_code, stage, updated_by, actor, source_id, updated_at
        )
        select
            a.store_id, a.id, a.order_code, 'ORDER_CONFIRMED', a.source::text, (select mirror.current_actor()), 'placed',
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

comment on function mirror.follow_new_orders() is
'Trigger: a placed order gets its delivery status, and counts for its customer.';
revoke execute on function mirror.follow_new_orders() from public;

create function mirror.forget_seen() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    delete from mirror.sync_seen as s where s.run_id = old.id;
    return null;
end
$$;

comment on function mirror.forget_seen() is
'Trigger: what a run has met goes with the run. A foreign key would look the run up for each customer and order.';
revoke execute on function mirror.forget_seen() from public;

create or replace function mirror.compare_slice(p_run_id uuid, p_slice json) returns json
language plpgsql stable
set search_path = ''
as $$
declare
    v_slice constant jsonb := p_slice; -- parsed once
    v_entity constant text := v_slice ->> 'entity';
    v_read_at constant timestamptz := v_slice ->> 'read_at';
    v_listed mirror.fingerprint_columns := jsonb_populate_record(null::mirror.fingerprint_columns, v_slice -> 'listed');
    v_run mirror.sync_runs;
    v_ids text[];
    v_hashes text[];
    v_states text[];
begin
    select * into strict v_run from mirror.sync_runs as r where r.id = p_run_id;
    select array_agg(l.source_id), array_agg(l.source_hash), array_agg(case
        when r.source_id is null or r.source_version = '-infinity' and r.deleted_at is null then 'missing' else 'stale'
    end)
    into v_ids, v_hashes, v_states
    from unnest(v_listed.source_id, v_listed.source_hash) as l (source_id, source_hash)
    left join mirror.source_rows(v_run.integration_id, v_entity, v_listed.source_id) as r on r.source_id = l.source_id
    where not coalesce(
        r.source_version > v_read_at or r.deleted_at > v_read_at or r.deleted_at is null and r.source_hash = l.source_hash, false
    );

    if v_ids is null then
        return '[]';
    elsif v_run.kind = 'backfill' then
        return (
            select json_agg(json_build_object('source_id', d.source_id, 'state', d.state))
            from unnest(v_ids, v_states) as d (source_id, state)
        );
    end if;
    return (
        select json_agg(json_build_object('source_id', d.source_id, 'state', d.state, 'cause', c.cause, 'detail', c.detail))
        from unnest(v_ids, v_states) as d (source_id, state)
        left join mirror.find_causes(v_run.integration_id, v_entity, v_ids, v_hashes) as c on c.source_id = d.source_id
    );
end
$$;

comment on function mirror.compare_slice(uuid, json) is
'Which entities of a slice are not here as the engine lists them: [{"source_id", "state": "missing|stale", "cause", '
'"detail"}], the last two in a reconcile. A row that was read later than the slice is newer, and right. p_slice: {"entity", '
'"read_at", "listed": {"source_id": [..], "source_hash": [..]}}.';
revoke execute on function mirror.compare_slice(uuid, json) from public;
grant execute on function mirror.compare_slice(uuid, json) to service_role;

create function mirror.verify_slice(p_integration_id uuid, p_slice jsonb) returns table (
    source_id text,
    outcome text,
    reason text,
    told_hash text,
    present_hash text
)
language plpgsql stable
set search_path = ''
as $$
declare
    v_entity constant text := p_slice ->> 'entity';
    v_read_at constant timestamptz := p_slice ->> 'read_at';
    v_listed mirror.fingerprint_columns := jsonb_populate_record(null::mirror.fingerprint_columns, p_slice -> 'listed');
    v_told mirror.told_columns := jsonb_populate_record(null::mirror.told_columns, p_slice -> 'told');
begin
    return query
    with judged as (
        select
            coalesce(l.source_id, t.source_id) as source_id,
            coalesce(t.source_hash, l.source_hash) as told_hash,
            r.source_hash as present_hash,
            t.outcome as told_outcome,
            t.reason,
            case
                when t.outcome in ('rejected', 'skipped') then t.outcome
                -- A later reading stands here, be it a state or a deletion: it is as right as anything can be.
                when r.source_version > coalesce(t.source_version, v_read_at)
                or r.deleted_at > coalesce(t.source_version, v_read_at) then 'unchanged'
                when t.outcome = 'deleted' and r.deleted_at = t.source_version then 'tombstoned'
                when t.outcome = 'state' and r.deleted_at is null and r.source_version = t.source_version
                and r.source_hash is not distinct from t.source_hash then 'written'
                when t.outcome is null and r.deleted_at is null and r.source_hash = l.source_hash then 'unchanged'
                when r.source_id is null then 'missing'
                else 'stale'
            end as outcome,
            l.source_id is not null as is_listed
        from unnest(v_listed.source_id, v_listed.source_hash) as l (source_id, source_hash)
        full join unnest(v_told.source_id, v_told.outcome, v_told.source_version, v_told.source_hash, v_told.reason)
            as t (source_id, outcome, source_version, source_hash, reason) on t.source_id = l.source_id
        left join mirror.source_rows(
            p_integration_id, v_entity, array(select unnest(v_listed.source_id) union select unnest(v_told.source_id))
        ) as r on r.source_id = coalesce(l.source_id, t.source_id)
    )
    select
        j.source_id,
        case
            when j.outcome in ('missing', 'stale') or not j.is_listed and j.outcome <> 'tombstoned' then 'rejected'
            when j.outcome = 'tombstoned' and j.is_listed then 'vanished'
            else j.outcome
        end,
        case
            when j.reason is not null then j.reason
            when not j.is_listed and j.told_outcome = 'state' then 'the engine has it, and did not list it'
            when j.told_outcome = 'deleted' and j.outcome = 'stale' then 'the engine no longer has it'
            when j.outcome = 'missing' then 'it is missing here'
            when j.outcome = 'stale' then 'it is here in another state'
        end,
        case when j.outcome = 'tombstoned' then 'gone' when j.outcome = 'unchanged' then j.present_hash else j.told_hash end,
        case when j.outcome = 'tombstoned' then 'gone' when j.outcome = 'missing' then null else j.present_hash end
    from judged as j;
end
$$;

comment on function mirror.verify_slice(uuid, jsonb) is
'What stands here of each entity of a slice, against what the engine told: written, unchanged, skipped, vanished (listed, '
'and then gone), tombstoned, or rejected with the reason. p_slice as write_slice takes it.';
revoke execute on function mirror.verify_slice(uuid, jsonb) from public;
grant execute on function mirror.verify_slice(uuid, jsonb) to service_role;

create or replace function mirror.write_slice(p_run_id uuid, p_claim uuid, p_slice json, p_records json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_run mirror.sync_runs := mirror.require_run(p_run_id, p_claim);
    v_part constant jsonb := p_slice; -- parsed once
    v_entity constant text := v_part ->> 'entity';
    v_slice constant integer := v_part ->> 'slice';
    v_read_at constant timestamptz := v_part ->> 'read_at';
    v_listed constant text[] := array(select jsonb_array_elements_text(v_part #> '{listed,source_id}'));
    v_new integer;
    v_receipt mirror.sync_receipts;
begin
    if p_records is not null then
        perform mirror.apply_records(p_records);
    end if;
    insert into mirror.sync_seen (run_id, entity, source_id, slice)
    select p_run_id, v_entity, l.source_id, v_slice
    from unnest(v_listed) as l (source_id)
    order by l.source_id
    on conflict do nothing;
    get diagnostics v_new = row_count;
    if v_new < cardinality(v_listed) then -- some were met before, be it in this slice, written once more
        select count(*) into v_new
        from unnest(v_listed) as l (source_id)
        inner join mirror.sync_seen as s
            on s.run_id = p_run_id and s.entity = v_entity and s.source_id = l.source_id and s.slice = v_slice;
    end if;

    insert into mirror.sync_receipts as r (
        run_id, entity, slice, read_at, next_position, counted, listed, written, unchanged, skipped, vanished, tombstoned, rejected,
        source_hash, content_hash, written_ids, tombstoned_ids, found, differing
    )
    select
        p_run_id, v_entity, v_slice, v_read_at, v_part ->> 'next_position',
        -- What was found gone nobody counted: of that, only what is there after all is the engine's.
        coalesce((v_part ->> 'counted')::integer, count(*) filter (where v.outcome <> 'tombstoned')::integer),
        v_new,
        count(*) filter (where v.outcome = 'written'),
        count(*) filter (where v.outcome = 'unchanged'),
        count(*) filter (where v.outcome = 'skipped'),
        count(*) filter (where v.outcome = 'vanished'),
        count(*) filter (where v.outcome in ('vanished', 'tombstoned')),
        count(*) filter (where v.outcome = 'rejected'),
        mirror.digest(array_agg(v.source_id || ' ' || coalesce(v.told_hash, '') order by v.source_id)
            filter (where v.outcome <> 'skipped')),
        mirror.digest(array_agg(v.source_id || ' ' || coalesce(v.present_hash, '') order by v.source_id)
            filter (where v.outcome <> 'skipped')),
        coalesce(array_agg(v.source_id order by v.source_id) filter (where v.outcome = 'written'), '{}'),
        coalesce(array_agg(v.source_id order by v.source_id) filter (where v.outcome in ('vanished', 'tombstoned')), '{}'),
        coalesce(v_part -> 'found', '[]'),
        coalesce(
            jsonb_agg(jsonb_build_object('source_id', v.source_id, 'reason', v.reason) order by v.source_id)
            filter (where v.outcome = 'rejected'),
            '[]'
        )
    from mirror.verify_slice(v_run.integration_id, v_part) as v
    on conflict (run_id, entity, slice) where not is_superseded do update set
        read_at = excluded.read_at, next_position = excluded.next_position, counted = excluded.counted, listed = excluded.listed,
        written = excluded.written, unchanged = excluded.unchanged, skipped = excluded.skipped, vanished = excluded.vanished,
        tombstoned = excluded.tombstoned, rejected = excluded.rejected, source_hash = excluded.source_hash,
        content_hash = excluded.content_hash, written_ids = excluded.written_ids, tombstoned_ids = excluded.tombstoned_ids,
        found = excluded.found, differing = excluded.differing
    returning r.* into v_receipt;

    update mirror.sync_runs as r
    set read_from = v_read_at
    where r.id = p_run_id and coalesce(r.read_from > v_read_at, true);
    perform mirror.move_cursor(p_run_id, v_entity);
    return to_jsonb(v_receipt) - array['written_ids', 'tombstoned_ids', 'found', 'created_at', 'updated_at'];
end
$$;

comment on function mirror.write_slice(uuid, uuid, json, json) is
'Writes the records of a slice where they are newer than what is there, looks at what stands there then, and leaves a '
'receipt, which it returns; all or nothing. Once more with the same arguments it changes nothing. p_slice: {"entity", '
'"slice", "read_at", "next_position", "counted", "listed": mirror.fingerprint_columns, "told": mirror.told_columns with '
'outcome state, deleted, skipped or rejected, "found": of compare_slice}; p_records as apply_records takes it.';
revoke execute on function mirror.write_slice(uuid, uuid, json, json) from public;
grant execute on function mirror.write_slice(uuid, uuid, json, json) to service_role;

-- What mirror.is_engine() says is spelled out here: as an expression it costs a row of a backfill a tenth of the call.
drop trigger note_hand_edit on public.customers;
create trigger note_hand_edit before update on public.customers
for each row
when ( -- what a customer proved is no edit by hand
    not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:')
    and (
        old.source, old.source_id, old.source_version, old.email, old.phone_number, old.phone_as_entered,
        old.phone_verified or new.phone_proved_at is not null,
        old.title, old.first_name, old.last_name, old.has_account, old.email_verified,
        old.marketing_consent, old.group_names, old.custom_fields, old.registered_at, old.deleted_at
    ) is distinct from (
        new.source, new.source_id, new.source_version, new.email, new.phone_number, new.phone_as_entered,
        new.phone_verified or new.phone_proved_at is not null,
        new.title, new.first_name, new.last_name, new.has_account, new.email_verified,
        new.marketing_consent, new.group_names, new.custom_fields, new.registered_at, new.deleted_at
    )
)
execute function mirror.note_hand_edit('customer');
drop trigger note_hand_removal on public.customers;
create trigger note_hand_removal before delete on public.customers
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_hand_edit('customer');
drop trigger note_hand_edit on public.customer_orders_summary;
create trigger note_hand_edit before update on public.customer_orders_summary
for each row
when (
    not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:')
    and (
        old.source, old.source_id, old.source_version, old.customer_id, old.order_code, old.order_state, old.order_date,
        old.payment_method, old.currency, old.sub_total, old.shipping, old.tax, old.discount, old.total, old.total_with_tax,
        old.total_paid, old.total_refunded, old.coupon_codes, old.shipping_method, old.shipping_address, old.billing_address,
        old.contact_name, old.contact_phone, old.contact_email, old.custom_fields, old.cancelled_at, old.deleted_at
    ) is distinct from (
        new.source, new.source_id, new.source_version, new.customer_id, new.order_code, new.order_state, new.order_date,
        new.payment_method, new.currency, new.sub_total, new.shipping, new.tax, new.discount, new.total, new.total_with_tax,
        new.total_paid, new.total_refunded, new.coupon_codes, new.shipping_method, new.shipping_address, new.billing_address,
        new.contact_name, new.contact_phone, new.contact_email, new.custom_fields, new.cancelled_at, new.deleted_at
    )
)
execute function mirror.note_hand_edit('order');
drop trigger note_hand_edit on public.customer_order_items;
create trigger note_hand_edit before insert or update on public.customer_order_items
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('order');
drop trigger note_hand_removal on public.customer_order_items;
create trigger note_hand_removal after delete on public.customer_order_items
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('order');
drop trigger note_hand_edit on public.customer_addresses;
create trigger note_hand_edit before insert or update on public.customer_addresses
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('customer');
drop trigger note_hand_removal on public.customer_addresses;
create trigger note_hand_removal after delete on public.customer_addresses
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('customer');
drop trigger recount on public.customers;
create trigger recount after update of total_orders, total_spent, spent_by_currency, last_order_date on public.customers
for each row
when (
    pg_trigger_depth() = 0 and not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:')
    and (old.total_orders, old.total_spent, old.spent_by_currency, old.last_order_date)
    is distinct from (new.total_orders, new.total_spent, new.spent_by_currency, new.last_order_date)
)
execute function mirror.recount_customer();

alter table mirror.sync_seen drop constraint sync_seen_run_id_fkey;
create trigger forget_seen after delete on mirror.sync_runs
for each row execute function mirror.forget_seen();

drop function mirror.text_array(text);
