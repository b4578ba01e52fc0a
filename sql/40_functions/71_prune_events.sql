create function mirror.guard_retention() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_events constant interval := (select r.keep from mirror.retention as r where r.what = 'events');
    v_keys constant interval := (select r.keep from mirror.retention as r where r.what = 'keys');
begin
    if v_events is null or v_keys is null then
        raise exception 'Both events and keys are kept for a time: neither row can go.'
        using errcode = 'restrict_violation', hint = 'To keep something for ever, choose a long time, such as 100 years.';
    elsif v_events < '1 day' then
        raise exception 'Events are kept for a day at least, not for %.', v_events
        using errcode = 'check_violation', hint = 'They answer what became of an order, and a rebuild starts from them.';
    elsif v_keys < v_events then
        raise exception 'Keys are kept at least as long as events: % is less than %.', v_keys, v_events
        using errcode = 'check_violation', hint = 'A hook that comes again is known by its key.';
    end if;
    return null;
end
$$;

comment on function mirror.guard_retention() is 'Trigger: the rules of retention, in words that an admin reads.';
revoke execute on function mirror.guard_retention() from public;

create function mirror.least_uuid_v7(p_at timestamptz) returns uuid
language sql immutable
set search_path = ''
as $$
    select (
        lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || '70008000000000000000'
    )::uuid
$$;

comment on function mirror.least_uuid_v7(timestamptz) is
'The least UUIDv7 of that moment: what has a smaller id was made before. It finds old rows by their primary key.';
revoke execute on function mirror.least_uuid_v7(timestamptz) from public;
grant execute on function mirror.least_uuid_v7(timestamptz) to service_role;

create function mirror.prune_events(
    p_events_before timestamptz,
    p_keys_before timestamptz,
    p_limit integer default 5000
) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_events integer;
    v_keys integer;
begin
    -- By the primary key, whose ids are in the order of arrival: no index more, which every event would have to pay for.
    with old as materialized (
        select e.id
        from mirror.webhook_events as e
        where
            e.id < mirror.least_uuid_v7(p_events_before)
            and e.state in ('applied', 'skipped') and e.settled_at < p_events_before
        order by e.id
        limit p_limit
        for update skip locked
    ), gone as (
        delete from mirror.webhook_events as e
        using old
        where e.id = old.id
        returning e.integration_id, e.event_id, e.created_at
    ), seen as (
        insert into mirror.seen_events (integration_id, event_id, seen_at)
        select g.integration_id, g.event_id, g.created_at
        from gone as g
        where g.created_at >= p_keys_before
        on conflict (integration_id, event_id) do nothing
    )
    select count(*) into v_events from gone;

    with old as materialized (
        select s.integration_id, s.event_id
        from mirror.seen_events as s
        where s.seen_at < p_keys_before
        order by s.seen_at
        limit p_limit
        for update skip locked
    )
    delete from mirror.seen_events as s
    using old
    where s.integration_id = old.integration_id and s.event_id = old.event_id;
    get diagnostics v_keys = row_count;
    return greatest(v_events, v_keys);
end
$$;

comment on function mirror.prune_events(timestamptz, timestamptz, integer) is
'Removes up to p_limit events that arrived and were applied or skipped before p_events_before, keeping their ids in '
'mirror.seen_events, and up to p_limit of such ids from before p_keys_before. Returns how many, of what it removed most: with '
'p_limit, there may be more.';
revoke execute on function mirror.prune_events(timestamptz, timestamptz, integer) from public;
grant execute on function mirror.prune_events(timestamptz, timestamptz, integer) to service_role;

create function mirror.prune() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_batch constant integer := 5000;
    v_pruned constant integer := mirror.prune_events(
        now() - (select r.keep from mirror.retention as r where r.what = 'events'),
        now() - (select r.keep from mirror.retention as r where r.what = 'keys'),
        v_batch
    );
begin
    if v_pruned = v_batch then
        perform mirror.run_again();
    end if;
    return v_pruned;
end
$$;

comment on function mirror.prune() is
'Removes a batch of what mirror.retention no longer keeps; returns how many. Runs by itself every minute, and again at once '
'while there is more.';
revoke execute on function mirror.prune() from public;
grant execute on function mirror.prune() to service_role;
