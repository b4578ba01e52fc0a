create type mirror.customer_columns as (
    source_id text [],
    source_version timestamptz [],
    email text [],
    phone_number text [],
    phone_as_entered text [],
    phone_verified boolean [],
    title text [],
    first_name text [],
    last_name text [],
    has_account boolean [],
    email_verified boolean [],
    marketing_consent boolean [],
    group_names text [],
    custom_fields jsonb [],
    registered_at timestamptz [],
    source_hash text []
);

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

comment on function mirror.write_customers(uuid, public.commerce_engine, mirror.customer_columns, text[]) is
'Writes the rows of customers where they are newer than what is there, and returns those: part of upsert_customers. New ones '
'with an address of p_fresh are active.';
revoke execute on function mirror.write_customers(uuid, public.commerce_engine, mirror.customer_columns, text[]) from public;
grant execute on function mirror.write_customers(uuid, public.commerce_engine, mirror.customer_columns, text[]) to service_role;

create function mirror.upsert_customers(p_integration_id uuid, p_records jsonb) returns integer
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

comment on function mirror.upsert_customers(uuid, jsonb) is
'Writes customers, each with its whole address book, where they are newer than what is there; returns how many were written. '
'p_records: {"customers": {column: [..]}, "addresses": {column: [..]}} with the columns of mirror.customer_columns and '
'mirror.address_columns; a source_id at most once.';
revoke execute on function mirror.upsert_customers(uuid, jsonb) from public;
grant execute on function mirror.upsert_customers(uuid, jsonb) to service_role;
