-- What the engine told is the engine's to change. Who changes it by hand is noted, and the source_hash of the customer or
-- order goes: the next reconcile finds that it is not as the engine has it, and reads it anew.

create function mirror.changed_columns(p_old jsonb, p_new jsonb, p_table regclass) returns text[]
language sql stable
set search_path = ''
as $$
    select coalesce(array_agg(n.key order by n.key), '{}')
    from jsonb_each(p_new) as n
    where
        p_old is not null and n.value is distinct from p_old -> n.key and n.key not in ('source_hash', 'updated_at')
        -- Generated ones have no value yet before the row is written.
        and n.key not in (select a.attname from pg_attribute as a where a.attrelid = p_table and a.attgenerated <> '')
$$;

comment on function mirror.changed_columns(jsonb, jsonb, regclass) is
'Which columns differ between two states of a row of a table; none without an old one.';
revoke execute on function mirror.changed_columns(jsonb, jsonb, regclass) from public;
grant execute on function mirror.changed_columns(jsonb, jsonb, regclass) to service_role;

create function mirror.note_hand_edit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    insert into mirror.hand_edits (store_id, source, entity, source_id, actor, table_name, action, columns)
    values (
        old.store_id, old.source, tg_argv[0], old.source_id, mirror.current_actor(), tg_table_name, lower(tg_op),
        case when tg_op = 'UPDATE' then mirror.changed_columns(to_jsonb(old), to_jsonb(new), tg_relid) else '{}' end
    );
    if tg_op = 'DELETE' then
        return old;
    end if;
    new.source_hash := null;
    new.source_version := old.source_version; -- a version from the future would keep the engine's own states out
    return new;
end
$$;

comment on function mirror.note_hand_edit() is
'Trigger: notes that a customer or order was changed by hand, and that it no longer is what the engine told. Its argument is '
'the entity.';
revoke execute on function mirror.note_hand_edit() from public;

create function mirror.note_part_edit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_owner constant text := case tg_argv[0] when 'order' then 'order_summary_id' else 'customer_id' end;
    v_old constant jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
    v_new constant jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
    v_owners constant uuid[] := array[v_old ->> v_owner, v_new ->> v_owner];
    v_columns constant text[] := mirror.changed_columns(v_old, coalesce(v_new, '{}'), tg_relid);
begin
    if tg_argv[0] = 'order' then
        update public.customer_orders_summary as o set source_hash = null where o.id = any(v_owners) and o.source_hash is not null;
        insert into mirror.hand_edits (store_id, source, entity, source_id, actor, table_name, action, columns)
        select o.store_id, o.source, 'order', o.source_id, mirror.current_actor(), tg_table_name, lower(tg_op), v_columns
        from public.customer_orders_summary as o
        where o.id = any(v_owners);
    else
        update public.customers as c set source_hash = null where c.id = any(v_owners) and c.source_hash is not null;
        insert into mirror.hand_edits (store_id, source, entity, source_id, actor, table_name, action, columns)
        select c.store_id, c.source, 'customer', c.source_id, mirror.current_actor(), tg_table_name, lower(tg_op), v_columns
        from public.customers as c
        where c.id = any(v_owners);
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    new.source_version := '-infinity'; -- older than whatever the engine will tell, which therefore replaces or removes it
    return new;
end
$$;

comment on function mirror.note_part_edit() is
'Trigger: the same for a part of an order (a line, a payment, …) or an address of a customer.';
revoke execute on function mirror.note_part_edit() from public;

create function mirror.forget_provider_state() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_table_name = 'payments' then
        update mirror.provider_payments as t
        set source_hash = null
        where t.store_id = old.store_id and t.source_id = old.provider_payment_id;
    else
        update mirror.provider_refunds as t
        set source_hash = null
        where t.store_id = old.store_id and t.source_id = old.stripe_refund_id;
    end if;
    return null;
end
$$;

comment on function mirror.forget_provider_state() is
'Trigger: a payment or refund that was changed by hand is read from its provider anew by the next reconcile.';
revoke execute on function mirror.forget_provider_state() from public;

create function mirror.recount_customer() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.refresh_customer_statistics(array[new.id]);
    return null;
end
$$;

comment on function mirror.recount_customer() is
'Trigger: what the mirror counts of a customer is counted anew when somebody writes another number there.';
revoke execute on function mirror.recount_customer() from public;
