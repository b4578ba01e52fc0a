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
    perform mirror.link_customers(v_store_id, v_written);
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
