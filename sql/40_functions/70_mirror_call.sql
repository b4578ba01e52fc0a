-- The second door. The Data API sees the schema public only; one function there calls those of mirror.

create function mirror.call_statement(p_function text, p_arguments text[]) returns text
language plpgsql stable
set search_path = ''
as $$
declare
    v_statements text[];
begin
    select array_agg(format(
        'select json_build_object(%L, %L::json, %L, %L::json, %L, coalesce(json_agg(json_build_array(%s)), %L)) '
        'from %smirror.%I(%s) as r (%s)',
        'columns', outputs.names, 'types', outputs.types, 'rows', outputs.chosen, '[]',
        'json_to_record($1) as a (' || inputs.declared || '), ', p.proname, inputs.passed, outputs.aliases
    ))
    into v_statements
    from pg_catalog.pg_proc as p
    cross join lateral (
        -- JSON arrives as text, as it does through the other door: a value within JSON would be read, and written anew.
        select
            string_agg(format('%I %s', i.name, i.read_as), ', ') as declared,
            string_agg(format('%1$I => a.%1$I::%2$s', i.name, i.type), ', ') as passed,
            count(*) as known
        from (
            select
                a.name,
                format_type(a.type, null) as type,
                case
                    when a.type in ('json'::regtype, 'jsonb'::regtype) then 'text'
                    when a.type in ('json[]'::regtype, 'jsonb[]'::regtype) then 'text[]'
                    else format_type(a.type, null)
                end as read_as
            from unnest(coalesce(p.proallargtypes, p.proargtypes::oid []), p.proargnames, p.proargmodes) as a (type, name, mode)
            where a.name = any(p_arguments) and coalesce(a.mode, 'i') = 'i'
        ) as i
    ) as inputs
    cross join lateral (
        select
            json_agg(o.name order by o.position) as names,
            json_agg(o.type order by o.position) as types,
            string_agg(format(
                case
                    when o.type = 'void' then 'null'
                    -- As text: what JSON has no exact form for, or would not leave as it is.
                    when o.type in ('json', 'jsonb', 'numeric') then 'r.%I::text'
                    when o.type = 'interval' then 'extract(epoch from r.%I)::text'
                    when o.type in ('json[]', 'jsonb[]', 'numeric[]') then 'r.%I::text[]'
                    else 'r.%I'
                end, o.name
            ), ', ' order by o.position) as chosen,
            string_agg(format('%I', o.name), ', ' order by o.position) as aliases
        from (
            select
                c.name,
                c.position,
                (
                    select format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null)
                    from pg_catalog.pg_type as t
                    where t.oid = c.type
                ) as type
            from (
                select a.name, a.type, a.position
                from unnest(p.proallargtypes, p.proargnames, p.proargmodes)
                    with ordinality as a (type, name, mode, position)
                where a.mode = 't'
                union all
                select p.proname, p.prorettype, 1
                where p.proallargtypes is null
            ) as c (name, type, position)
        ) as o
    ) as outputs
    where
        p.pronamespace = 'mirror'::regnamespace and p.proname = p_function and p.prokind = 'f'
        and p.prorettype <> 'trigger'::regtype and has_function_privilege(p.oid, 'execute')
        and inputs.known = cardinality(p_arguments) and inputs.known >= p.pronargs - p.pronargdefaults;

    if cardinality(v_statements) = 1 then
        return v_statements[1];
    end if;
    raise exception 'mirror.%(%) is no function that % may call', p_function, array_to_string(p_arguments, ', '), current_user
    using errcode = 'undefined_function', hint = 'The schema may be older than who calls: run `mirror migrate`.';
end
$$;

comment on function mirror.call_statement(text, text[]) is
'The statement by which public.mirror_call calls a function of the schema mirror with arguments of these names; fails if the '
'caller may call none.';
revoke execute on function mirror.call_statement(text, text[]) from public;
grant execute on function mirror.call_statement(text, text[]) to service_role;

create function public.mirror_call(p_function text, p_arguments json) returns json
language plpgsql
set search_path = ''
set statement_timeout = '60s'
set timezone = 'UTC'
as $$
declare
    v_answer json;
begin
    if coalesce(current_setting('mirror.actor', true), '') = '' then
        perform mirror.act_as('service');
    end if;
    execute mirror.call_statement(p_function, array(select json_object_keys(p_arguments)))
    into v_answer
    using p_arguments;
    return v_answer;
end
$$;

comment on function public.mirror_call(text, json) is
'For the mirror itself, where it has no connection to Postgres: calls the function p_function of the schema mirror with the '
'arguments in p_arguments, by name, with its caller''s rights. Returns columns, their types, and rows; JSON and exact numbers '
'are text.';
revoke execute on function public.mirror_call(text, json) from public, anon, authenticated;
grant execute on function public.mirror_call(text, json) to service_role;
