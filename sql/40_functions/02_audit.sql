create function mirror.audit() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_ignored constant text[] := '{updated_at,order_count,is_ready}';
    v_old jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) - v_ignored end;
    v_new jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) - v_ignored end;
    v_row jsonb := coalesce(v_new, v_old);
begin
    if tg_op = 'UPDATE' then
        select jsonb_object_agg(o.key, o.value), jsonb_object_agg(o.key, v_new -> o.key)
        into v_old, v_new
        from jsonb_each(v_old) as o
        where o.value is distinct from v_new -> o.key;
        if v_old is null then
            return null;
        end if;
    end if;
    insert into mirror.audit_log (
        store_id, actor, database_role, action, table_name, row_id, old_values, new_values
    ) values (
        (v_row ->> 'store_id')::uuid, mirror.current_actor(), session_user, lower(tg_op), tg_table_name,
        (v_row ->> 'id')::uuid, v_old, v_new
    );
    return null;
end
$$;

comment on function mirror.audit() is 'Trigger: notes in mirror.audit_log who changed which columns of a row.';
revoke execute on function mirror.audit() from public;

create function mirror.audit_consent() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    insert into mirror.audit_log (
        store_id, actor, database_role, action, table_name, row_id, old_values, new_values
    ) values (
        new.store_id, mirror.current_actor(), session_user, lower(tg_op), tg_table_name, new.id,
        case when tg_op = 'UPDATE' then
            jsonb_build_object('marketing_consent', old.marketing_consent, 'phone_verified', old.phone_verified)
        end,
        jsonb_build_object('marketing_consent', new.marketing_consent, 'phone_verified', new.phone_verified)
    );
    return null;
end
$$;

comment on function mirror.audit_consent() is
'Trigger: notes in mirror.audit_log who changed a customer''s consent, and nothing else of the customer.';
revoke execute on function mirror.audit_consent() from public;

create function mirror.refuse_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception 'The history in % is not changed or removed.', tg_table_name
    using
        errcode = 'restrict_violation',
        hint = 'Leave it as it is: what happened later is a new row.';
end
$$;

comment on function mirror.refuse_change() is 'Trigger: keeps a table append-only.';
revoke execute on function mirror.refuse_change() from public;
