-- Primary keys are UUIDv7 (RFC 9562): ordered by time, so inserts stay at the right edge of the index.
-- Postgres 18 makes them itself; older versions get the same layout:
-- milliseconds, then version 7 and the fraction of the millisecond in 12 bits, then random ones.

do $create$
begin
    if current_setting('server_version_num')::int >= 180000 then
        create function mirror.uuid_v7() returns uuid
        language sql volatile parallel safe
        set search_path = ''
        as 'select pg_catalog.uuidv7()';
    else
        create function mirror.uuid_v7() returns uuid
        language sql volatile parallel safe
        set search_path = ''
        as $body$
            select encode(
                overlay(
                    overlay(
                        uuid_send(gen_random_uuid())
                        placing substring(int8send(t.microseconds / 1000) from 3) from 1 for 6
                    )
                    placing substring(int4send((28672 + t.microseconds % 1000 * 4096 / 1000)::integer) from 3)
                    from 7 for 2
                ),
                'hex'
            )::uuid
            from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint as microseconds) as t
        $body$;
    end if;
end
$create$;

comment on function mirror.uuid_v7() is 'A new UUIDv7 (RFC 9562): the default of every primary key.';
revoke execute on function mirror.uuid_v7() from public;
grant execute on function mirror.uuid_v7() to service_role;

create function mirror.uuid_v7s(p_count integer) returns uuid[]
language plpgsql volatile parallel safe
set search_path = ''
as $$
declare
    v_drawn constant text := mirror.uuid_v7();
    v_head constant text := left(v_drawn, 28);
    v_counter constant bigint := ('x' || right(v_drawn, 8))::bit(32)::bigint & 2147483647; -- with room for what is added
begin
    return array(select (v_head || lpad(to_hex(v_counter + n.nth), 8, '0'))::uuid from generate_series(1, p_count) as n (nth));
end
$$;

comment on function mirror.uuid_v7s(integer) is
'So many new UUIDv7, in their order, for rows that are written together: one is drawn, and its last bits are counted up (RFC '
'9562, 6.2, method 2). To draw one for each row, as a primary key''s default does, costs more than the row''s indexes.';
revoke execute on function mirror.uuid_v7s(integer) from public;
grant execute on function mirror.uuid_v7s(integer) to service_role;
