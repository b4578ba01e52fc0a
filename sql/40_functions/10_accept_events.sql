create type mirror.event_columns as (
    integration_id uuid [],
    event_id text [],
    event_type text [],
    entity_id text [],
    payload json [],
    request_id text []
);

create function mirror.accept_events(p_events json) returns boolean[]
language plpgsql
set search_path = ''
-- Planned once a connection. How many events come is known beforehand, and would have Postgres plan each call anew.
set plan_cache_mode = 'force_generic_plan'
as $$
declare
    v_events mirror.event_columns := json_populate_record(null::mirror.event_columns, p_events);
    v_accepted boolean[];
begin
    with arriving as (
        select *
        from unnest(
            v_events.integration_id, v_events.event_id, v_events.event_type, v_events.entity_id, v_events.payload,
            v_events.request_id
        ) with ordinality as t (integration_id, event_id, event_type, entity_id, payload, request_id, position)
    ), inserted as (
        insert into mirror.webhook_events (integration_id, event_id, event_type, entity_id, payload, request_id)
        select integration_id, event_id, event_type, entity_id, payload, request_id
        from (
            select distinct on (integration_id, event_id) *
            from arriving
            order by integration_id, event_id, position
        ) as firsts
        where not exists (
            select from mirror.seen_events as s
            where s.integration_id = firsts.integration_id and s.event_id = firsts.event_id
            offset 0 -- one look-up each: joined, the table would be read by what it held when a connection began
        )
        order by integration_id, event_id
        on conflict (integration_id, event_id) do nothing
        returning integration_id, event_id
    ), firsts as (
        select integration_id, event_id, min(position) as position
        from arriving
        group by integration_id, event_id
    )
    select array_agg(inserted.event_id is not null order by arriving.position)
    into v_accepted
    from arriving
    left join firsts using (integration_id, event_id, position)
    left join inserted
        on inserted.integration_id = firsts.integration_id and inserted.event_id = firsts.event_id;

    if true = any(v_accepted) then
        perform pg_notify('mirror_inbox', '');
    end if;
    return coalesce(v_accepted, '{}');
end
$$;

comment on function mirror.accept_events(json) is
'Stores verified events and wakes the daemon. Takes one JSON object with an array per column of '
'mirror.event_columns; returns, in the same order, whether each event is new (false: known already).';
revoke execute on function mirror.accept_events(json) from public;
grant execute on function mirror.accept_events(json) to service_role;
