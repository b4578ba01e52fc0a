-- The same tables from the same slices, faster. A slice is parsed once; records look up what they belong to by the whole key,
-- whatever the planner knows of a table; documents lie beside the inbox, so that a claim does not write them again.

alter table mirror.webhook_events alter column payload set storage external;

drop function mirror.upsert_customers(uuid, json);
drop function mirror.delete_customers(uuid, json);
drop function mirror.upsert_orders(uuid, json);
drop function mirror.delete_orders(uuid, json);

create or replace function mirror.claim_events(p_claim uuid, p_limit integer, p_lease interval)
returns table (
    id uuid,
    integration_id uuid,
    event_type text,
    payload json,
    attempts integer
)
language sql
set search_path = ''
-- By the index, in its order: a planner that does not know how the inbox has grown would sort all that wait, for each slice.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
    -- Materialized: a plan that ran this twice would lock, and lease, more than p_limit.
    with due as materialized (
        select w.id
        from mirror.webhook_events as w
        where w.state = 'pending' and w.available_at <= now()
        order by w.available_at, w.id
        limit p_limit
        for update skip locked
    )
    update mirror.webhook_events as e
    set
        claimed_by = p_claim,
        available_at = now() + p_lease,
        attempts = e.attempts + 1
    from due
    where e.id = due.id
    returning e.id, e.integration_id, e.event_type, e.payload, e.attempts
$$;

create or replace function mirror.settle_events(p_claim uuid, p_settlements json) returns integer
language plpgsql
set search_path = ''
-- One look-up each: a planner that does not know how the inbox has grown would read all of it, for each slice.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_settlements mirror.settlement_columns
        := json_populate_record(null::mirror.settlement_columns, p_settlements);
    v_settled integer;
begin
    update mirror.webhook_events as e
    set
        state = (case s.outcome when 'retry' then 'pending' else s.outcome end)::mirror.event_state,
        reason = s.reason,
        claimed_by = null,
        available_at = case
            when s.outcome = 'retry'
                then now() + coalesce(make_interval(secs => s.retry_after), mirror.retry_wait('event', e.attempts))
            else e.available_at
        end,
        settled_at = case when s.outcome <> 'retry' then now() end
    from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
        as s (id, outcome, reason, retry_after)
    where e.id = s.id and e.claimed_by = p_claim and e.settled_at is null; -- not `state`: its index leads to all that wait
    get diagnostics v_settled = row_count;

    if v_settled <> cardinality(v_settlements.id) then
        raise exception 'claim % holds only % of the % events that it settles', p_claim, v_settled,
            cardinality(v_settlements.id)
        using
            errcode = 'lock_not_available',
            hint = 'The lease lapsed and another worker took them over: roll back, and leave them to it.';
    end if;
    return v_settled;
end
$$;

create or replace function mirror.lock_customers(
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

create or replace function mirror.lock_orders(
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

create or replace function mirror.replace_addresses(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_customers uuid[],
    p_addresses mirror.address_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.customer_addresses as a (
        store_id, customer_id, source, source_id, source_version, address_type, is_default, full_name, company,
        street_line_1, street_line_2, city, province, postal_code, country_code, country_name, phone_number,
        phone_as_entered, custom_fields
    )
    select distinct on (r.source_id)
        p_store_id, c.id, p_source, r.source_id, c.source_version, r.address_type, r.is_default, r.full_name,
        r.company, r.street_line_1, r.street_line_2, r.city, r.province, r.postal_code, r.country_code,
        r.country_name, r.phone_number, r.phone_as_entered, coalesce(r.custom_fields, '{}')
    from unnest(
        p_addresses.customer_source_id, p_addresses.source_id, p_addresses.address_type, p_addresses.is_default,
        p_addresses.full_name, p_addresses.company, p_addresses.street_line_1, p_addresses.street_line_2,
        p_addresses.city, p_addresses.province, p_addresses.postal_code, p_addresses.country_code,
        p_addresses.country_name, p_addresses.phone_number, p_addresses.phone_as_entered,
        p_addresses.custom_fields
    ) as r (
        customer_source_id, source_id, address_type, is_default, full_name, company, street_line_1,
        street_line_2, city, province, postal_code, country_code, country_name, phone_number, phone_as_entered,
        custom_fields
    )
    cross join lateral (
        select k.id, k.source_version
        from public.customers as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.customer_source_id
        offset 0 -- one look-up each, see mirror.replace_order_items
    ) as c
    where (c.id in (select w.id from unnest(p_customers) as w (id))) is true -- hashed; `= any` compares with each
    -- An address that moved may stand in two books of one slice: the newer book has it.
    order by r.source_id, c.source_version desc
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

    delete from public.customer_addresses as a
    using public.customers as c
    where c.id = any(p_customers) and a.customer_id = c.id and a.source_version < c.source_version;
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
        select found.source_id, found.email, found.deleted_at
        from (select r.source_id from unnest(v_customers.source_id) as r (source_id) order by r.source_id) as wanted
        cross join lateral (
            select c.source_id, c.email, c.deleted_at
            from public.customers as c
            where c.store_id = v_store_id and c.source = v_source and c.source_id = wanted.source_id
            for no key update -- one look-up each, see mirror.replace_order_items
        ) as found
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

comment on function mirror.upsert_customers(uuid, jsonb) is
'Writes customers, each with its whole address book, where they are newer than what is there; returns how many were written. '
'p_records: {"customers": {column: [..]}, "addresses": {column: [..]}} with the columns of mirror.customer_columns and '
'mirror.address_columns; a source_id at most once.';
revoke execute on function mirror.upsert_customers(uuid, jsonb) from public;
grant execute on function mirror.upsert_customers(uuid, jsonb) to service_role;

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

comment on function mirror.delete_customers(uuid, jsonb) is
'Marks customers deleted where nothing newer is known; returns how many. A customer that was never seen gets a tombstone, '
'so that an older state that arrives later cannot bring it to life. p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_customers(uuid, jsonb) from public;
grant execute on function mirror.delete_customers(uuid, jsonb) to service_role;

create or replace function mirror.upsert_orders(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_orders mirror.order_columns
        := jsonb_populate_record(null::mirror.order_columns, p_records -> 'orders');
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
        returning o.id
    )
    select array_agg(id) into v_written from written;

    if v_written is null then
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    perform mirror.replace_order_items(
        v_store_id, v_source, v_written,
        jsonb_populate_record(null::mirror.item_columns, p_records -> 'items')
    );
    perform mirror.record_delivery(
        v_store_id, v_source, v_written,
        v_orders,
        jsonb_populate_record(null::mirror.stage_columns, p_records -> 'stages')
    );
    perform mirror.batch_pre_orders(v_written);
    perform mirror.act_as(v_actor);
    return cardinality(v_written);
end
$$;

comment on function mirror.upsert_orders(uuid, jsonb) is
'Writes placed orders with all their lines and delivery history where they are newer than what is there; returns how many were '
'written. p_records: {"orders": {column: [..]}, "items": {..}, "stages": {..}} with the columns of mirror.order_columns, '
'mirror.item_columns and mirror.stage_columns; a source_id at most once.';
revoke execute on function mirror.upsert_orders(uuid, jsonb) from public;
grant execute on function mirror.upsert_orders(uuid, jsonb) to service_role;

create or replace function mirror.delete_orders(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions mirror.deletion_columns := jsonb_populate_record(null::mirror.deletion_columns, p_records);
    v_deleted integer;
    v_actor text;
begin
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

comment on function mirror.delete_orders(uuid, jsonb) is
'Marks orders deleted where nothing newer is known; returns how many. An order that was never seen gets a tombstone. '
'p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_orders(uuid, jsonb) from public;
grant execute on function mirror.delete_orders(uuid, jsonb) to service_role;

create or replace function mirror.apply_records(p_records json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_records jsonb;
    v_integration_id uuid;
    v_customers integer := 0;
    v_orders integer := 0;
begin
    perform mirror.take_turn(p_together => true);
    -- As jsonb it is parsed once; of json, each `->` would read the whole slice again.
    for v_records in select r.value from jsonb_array_elements(p_records::jsonb) as r loop
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
    end loop;
    return json_build_object('customers', v_customers, 'orders', v_orders);
end
$$;

create or replace function mirror.refresh_customer_statistics(p_customers uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Locked first, counted in the next statement: whoever waits here sees what the one before has committed.
    perform
    from public.customers as c
    where c.id = any(p_customers)
    order by c.source_id
    for no key update;

    update public.customers as c
    set
        total_orders = s.total_orders,
        total_spent = s.total_spent,
        spent_by_currency = s.spent_by_currency,
        last_order_date = s.last_order_date
    from (
        select
            k.id,
            coalesce(sum(t.orders), 0)::integer as total_orders,
            coalesce(sum(t.spent) filter (where t.currency = st.currency), 0) as total_spent,
            coalesce(jsonb_object_agg(t.currency, t.spent) filter (where t.currency is not null), '{}')
                as spent_by_currency,
            max(t.last_order_date) as last_order_date
        from public.customers as k
        inner join public.stores as st on st.id = k.store_id
        left join lateral (
            select
                o.currency,
                count(*) as orders,
                sum(o.total_with_tax - o.total_refunded) as spent,
                max(o.order_date) as last_order_date
            from (
                select p.*
                from public.customer_orders_summary as p
                where p.customer_id = k.id
                offset 0 -- by the customer and nothing else: a partial index would be read from end to end for each of them
            ) as o
            where o.order_code is not null and o.cancelled_at is null and o.deleted_at is null
            group by o.currency
        ) as t on true
        where k.id = any(p_customers)
        group by k.id, st.currency
    ) as s
    where
        c.id = s.id
        and (c.total_orders, c.total_spent, c.spent_by_currency, c.last_order_date)
        is distinct from (s.total_orders, s.total_spent, s.spent_by_currency, s.last_order_date);
end
$$;

create or replace function mirror.replace_order_items(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_items mirror.item_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.customer_order_items as i (
        store_id, order_summary_id, source_id, source_version, sku, product_name, variant_name, quantity, currency,
        unit_price_with_tax, line_total_with_tax, patch_enabled, patch_type, print_name, print_number,
        is_pre_order, custom_fields
    )
    select
        p_store_id, o.id, r.source_id, o.source_version, r.sku, r.product_name, r.variant_name, r.quantity,
        o.currency, r.unit_price_with_tax, r.line_total_with_tax, coalesce(r.patch_enabled, false), r.patch_type,
        r.print_name, r.print_number, coalesce(r.is_pre_order, false), coalesce(r.custom_fields, '{}')
    from unnest(
        p_items.order_source_id, p_items.source_id, p_items.sku, p_items.product_name, p_items.variant_name,
        p_items.quantity, p_items.unit_price_with_tax, p_items.line_total_with_tax, p_items.patch_enabled,
        p_items.patch_type, p_items.print_name, p_items.print_number, p_items.is_pre_order,
        p_items.custom_fields
    ) as r (
        order_source_id, source_id, sku, product_name, variant_name, quantity, unit_price_with_tax,
        line_total_with_tax, patch_enabled, patch_type, print_name, print_number, is_pre_order, custom_fields
    )
    cross join lateral (
        select k.id, k.source_version, k.currency
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each: a planner that does not know the table yet would read all orders of the store
    ) as o
    where (o.id in (select w.id from unnest(p_orders) as w (id))) is true -- hashed; `= any` compares with each
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

    delete from public.customer_order_items as i
    using public.customer_orders_summary as o
    where o.id = any(p_orders) and i.order_summary_id = o.id and i.source_version < o.source_version;
end
$$;

create or replace function mirror.batch_pre_orders(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_store_id uuid;
    v_waiting uuid[];
begin
    for v_store_id, v_waiting in
        select o.store_id, array_agg(o.id order by o.order_date, o.id)
        from (
            select p.*
            from public.customer_orders_summary as p
            where p.id = any(p_orders)
            offset 0 -- by their ids and nothing else, see mirror.refresh_customer_statistics
        ) as o
        inner join public.stores as s on s.id = o.store_id
        where
            o.order_code is not null and o.joined_batch_at is null
            and o.cancelled_at is null and o.deleted_at is null and o.delivery_stage = 'ORDER_CONFIRMED'
            and (
                s.batches_all_orders or exists (
                    select from public.customer_order_items as i
                    where i.order_summary_id = o.id and i.is_pre_order and i.quantity > 0
                )
            )
        group by o.store_id
    loop
        perform mirror.join_open_batch(v_store_id, v_waiting);
    end loop;
end
$$;

create or replace function mirror.record_delivery(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_told mirror.order_columns,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_before jsonb;
    v_commanded uuid[];
    v_orders uuid[];
begin
    -- Orders of which the engine was told something, or is to be.
    v_commanded := array(select distinct c.order_summary_id from mirror.outbox as c where c.order_summary_id = any(p_orders));

    -- Of most orders the engine tells no more than that they were placed, or what it told before: they are as they should be.
    v_orders := array(
        select o.id
        from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number, p_told.carrier)
            as r (source_id, stage, tracking_number, carrier)
        cross join lateral (
            select k.id, k.source_delivery_stage, k.source_tracking_number, d.carrier
            from public.customer_orders_summary as k
            left join public.order_delivery_status as d on d.order_summary_id = k.id
            where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
            offset 0 -- one look-up each, see mirror.replace_order_items
        ) as o
        where
            (o.id in (select w.id from unnest(p_orders) as w (id))) is true -- hashed; `= any` compares with each
            and (
                r.stage is distinct from 'ORDER_CONFIRMED'
                or (o.source_delivery_stage, o.source_tracking_number, o.carrier)
                is distinct from (r.stage, r.tracking_number, r.carrier)
                or r.source_id in (
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

-- As pg_catalog.uuidv7() the default of a row is an operation of its insert; mirror.uuid_v7() is a call for each row.
do $$
declare
    v_table regclass;
    v_column name;
begin
    if current_setting('server_version_num')::int < 180000 then
        return;
    end if;
    for v_table, v_column in
        select d.adrelid::regclass, a.attname
        from pg_catalog.pg_attrdef as d
        inner join pg_catalog.pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where pg_get_expr(d.adbin, d.adrelid) = 'mirror.uuid_v7()'
    loop
        execute format('alter table %s alter column %I set default pg_catalog.uuidv7()', v_table, v_column);
    end loop;
end
$$;
