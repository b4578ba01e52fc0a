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
