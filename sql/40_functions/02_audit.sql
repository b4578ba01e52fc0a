create function mirror.acting_role() returns text
language sql stable
set search_path = ''
as $$
    select coalesce(nullif(current_setting('role'), 'none'), session_user)
$$;

comment on function mirror.acting_role() is
'The database role of whoever is connected, or that PostgREST has taken on for them; not that of a function''s owner.';
revoke execute on function mirror.acting_role() from public;
grant execute on function mirror.acting_role() to service_role;

-- The audit's triggers run with their owner's rights: nobody else may add to mirror.audit_log, or could forge it.

create function mirror.audit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_actor constant text := mirror.current_actor();
    v_role constant text := mirror.acting_role();
begin
    if tg_op = 'INSERT' then
        insert into mirror.audit_log (store_id, actor, database_role, action, table_name, row_id, new_values)
        select
            a.store_id, v_actor, v_role, 'insert', tg_table_name, a.id, to_jsonb(a) - tg_argv
        from after as a;
    elsif tg_op = 'DELETE' then
        insert into mirror.audit_log (store_id, actor, database_role, action, table_name, row_id, old_values)
        select
            b.store_id, v_actor, v_role, 'delete', tg_table_name, b.id, to_jsonb(b) - tg_argv
        from before as b;
    else
        insert into mirror.audit_log (
            store_id, actor, database_role, action, table_name, row_id, old_values, new_values
        )
        select
            r.store_id, v_actor, v_role, 'update', tg_table_name, r.id, changed.old_values, changed.new_values
        from (
            select a.store_id, a.id, to_jsonb(b) - tg_argv as old_row, to_jsonb(a) - tg_argv as new_row
            from after as a
            full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
            offset 0 -- the two are made once, not wherever they are named
        ) as r
        cross join lateral (
            select
                jsonb_object_agg(n.key, r.old_row -> n.key) as old_values, jsonb_object_agg(n.key, n.value) as new_values
            from jsonb_each(r.new_row) as n
            where n.value is distinct from r.old_row -> n.key
        ) as changed
        where r.new_row is distinct from r.old_row;
    end if;
    return null;
end
$$;

comment on function mirror.audit() is
'Trigger: notes in mirror.audit_log who changed which columns of which rows. Its arguments are the columns that are not noted.';
revoke execute on function mirror.audit() from public;

create function mirror.audit_consent() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_actor constant text := mirror.current_actor();
    v_role constant text := mirror.acting_role();
begin
    if tg_op = 'INSERT' then
        insert into mirror.audit_log (store_id, actor, database_role, action, table_name, row_id, new_values)
        select
            a.store_id, v_actor, v_role, 'insert', tg_table_name, a.id,
            jsonb_build_object(
                'marketing_consent', a.marketing_consent, 'phone_verified', a.phone_verified,
                'auth_user_id', a.auth_user_id
            )
        from after as a
        where a.marketing_consent or a.phone_verified or a.auth_user_id is not null;
    else
        insert into mirror.audit_log (
            store_id, actor, database_role, action, table_name, row_id, old_values, new_values
        )
        select
            a.store_id, v_actor, v_role, 'update', tg_table_name, a.id,
            changed.old_values, changed.new_values
        from after as a
        full join before as b using (id)
        cross join lateral (
            select jsonb_object_agg(c.name, c.old_value) as old_values, jsonb_object_agg(c.name, c.new_value) as new_values
            from (
                values
                ('marketing_consent', to_jsonb(b.marketing_consent), to_jsonb(a.marketing_consent)),
                ('phone_verified', to_jsonb(b.phone_verified), to_jsonb(a.phone_verified)),
                ('auth_user_id', to_jsonb(b.auth_user_id), to_jsonb(a.auth_user_id))
            ) as c (name, old_value, new_value)
            where c.old_value is distinct from c.new_value
        ) as changed
        where
            (a.marketing_consent, a.phone_verified, a.auth_user_id)
            is distinct from (b.marketing_consent, b.phone_verified, b.auth_user_id);
    end if;
    return null;
end
$$;

comment on function mirror.audit_consent() is
'Trigger: notes in mirror.audit_log who changed a customer''s consent, or what opens the customer''s data to a user, and nothing '
'else of the customer.';
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

create function mirror.refuse_emptying() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception 'The rows of % are not removed all at once.', tg_table_name
    using
        errcode = 'restrict_violation',
        hint = 'Choose those that are to go by a filter, and delete them: what follows is done then, or refused.';
end
$$;

comment on function mirror.refuse_emptying() is
'Trigger: keeps a table from being emptied, as Studio does with all rows chosen. No row''s own trigger would notice.';
revoke execute on function mirror.refuse_emptying() from public;

create function mirror.refuse_view_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception '% is a view and is not edited.', tg_table_name
    using errcode = 'restrict_violation', hint = tg_argv[0];
end
$$;

comment on function mirror.refuse_view_change() is
'Trigger: a view that joins is not edited. Without it Postgres says so before it looks whether somebody may try, and the Data '
'API answers 500. Its argument is what to do instead.';
revoke execute on function mirror.refuse_view_change() from public;
