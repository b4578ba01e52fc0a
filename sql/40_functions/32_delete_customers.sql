create type mirror.deletion_columns as (
    source_id text [],
    source_version timestamptz []
);

create function mirror.delete_customers(p_integration_id uuid, p_records jsonb) returns integer
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

comment on function mirror.delete_customers(uuid, jsonb) is
'Marks customers deleted where nothing newer is known; returns how many. A customer that was never seen gets a tombstone, '
'so that an older state that arrives later cannot bring it to life. p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_customers(uuid, jsonb) from public;
grant execute on function mirror.delete_customers(uuid, jsonb) to service_role;
