create function mirror.delete_orders(p_integration_id uuid, p_records jsonb) returns integer
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

comment on function mirror.delete_orders(uuid, jsonb) is
'Marks orders deleted where nothing newer is known; returns how many. An order that was never seen gets a tombstone. '
'p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_orders(uuid, jsonb) from public;
grant execute on function mirror.delete_orders(uuid, jsonb) to service_role;
