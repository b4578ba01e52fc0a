create type mirror.written_customer as (
    id uuid,
    source_id text,
    email text,
    is_active boolean,
    was_there boolean,
    source_version timestamptz
);

create type mirror.address_columns as (
    customer_source_id text [],
    source_id text [],
    address_type public.address_type [],
    is_default boolean [],
    full_name text [],
    company text [],
    street_line_1 text [],
    street_line_2 text [],
    city text [],
    province text [],
    postal_code text [],
    country_code text [],
    country_name text [],
    phone_number text [],
    phone_as_entered text [],
    custom_fields jsonb []
);

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
