create function mirror.count_rows(p_table regclass) returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
    v_pages constant bigint := pg_relation_size(p_table) / current_setting('block_size')::bigint;
    v_rows bigint;
begin
    if v_pages > 10000 then
        -- As the planner guesses: rows per page when the table was last analyzed, times the pages that it has now.
        select (c.reltuples / c.relpages * v_pages)::bigint into v_rows
        from pg_class as c
        where c.oid = p_table and c.relpages > 0 and c.reltuples >= 0;
    end if;
    if v_rows is null then
        execute format('select count(*) from %s', p_table) into v_rows;
    end if;
    return v_rows;
end
$$;

comment on function mirror.count_rows(regclass) is
'How many rows a table has: counted if it has at most 10,000 pages (80 MB), else as many as the planner believes.';
revoke execute on function mirror.count_rows(regclass) from public;
grant execute on function mirror.count_rows(regclass) to service_role;

create function mirror.count_inbox() returns table (state mirror.event_state, events bigint)
language plpgsql stable
set search_path = ''
as $$
declare
    v_pages constant bigint
        := pg_relation_size('mirror.webhook_events') / current_setting('block_size')::bigint;
begin
    if v_pages <= 10000 then
        return query
        select s.state, coalesce(c.events, 0)
        from unnest(enum_range(null::mirror.event_state)) as s (state)
        left join (
            select e.state, count(*) as events from mirror.webhook_events as e group by e.state
        ) as c on c.state = s.state;
        return;
    end if;
    -- What waits and what failed has an index and is few; of the rest a sample of the pages speaks for all.
    return query
    select 'pending'::mirror.event_state, count(*) from mirror.webhook_events as e where e.state = 'pending'
    union all
    select 'dead', count(*) from mirror.webhook_events as e where e.state = 'dead'
    union all
    select s.state, (coalesce(c.events, 0) * v_pages / 2000)::bigint
    from unnest(array['applied', 'skipped']::mirror.event_state[]) as s (state)
    left join (
        select e.state, count(*) as events
        from mirror.webhook_events as e tablesample system (100.0 * 2000 / v_pages)
        group by e.state
    ) as c on c.state = s.state;
end
$$;

comment on function mirror.count_inbox() is
'How many events of each state are in the inbox. Of more than 10,000 pages (80 MB), applied and skipped are estimated from a '
'sample.';
revoke execute on function mirror.count_inbox() from public;
grant execute on function mirror.count_inbox() to service_role;

create function mirror.get_status() returns json
language sql stable
set search_path = ''
as $$
    select json_build_object(
        'inbox', (select json_object_agg(c.state, c.events order by c.state) from mirror.count_inbox() as c),
        'lag_seconds', coalesce((
            select extract(epoch from now() - min(e.created_at))::float8
            from mirror.webhook_events as e
            where e.state = 'pending'
        ), 0),
        'dead_letters', coalesce((
            select json_agg(json_build_object(
                'event_id', dead.event_id, 'event_type', dead.event_type, 'entity_id', dead.entity_id,
                'reason', dead.reason, 'settled_at', dead.settled_at
            ))
            from (
                select e.event_id, e.event_type, e.entity_id, e.reason, e.settled_at
                from mirror.webhook_events as e
                where e.state = 'dead'
                order by e.settled_at desc
                limit 10
            ) as dead
        ), '[]'),
        'outbox_waiting', (select count(*) from mirror.outbox as o where o.state = 'pending'),
        'commands', coalesce((select json_agg(c) from mirror.count_commands() as c), '[]'),
        'books', coalesce((select json_agg(b) from mirror.count_books() as b), '[]'),
        'alarms', coalesce((select json_agg(a) from mirror.list_alarms() as a), '[]'),
        'integrations', coalesce((
            select json_agg(json_build_object(
                'slug', h.slug,
                'last_hook_at', h.last_hook_at,
                'silent_seconds', extract(epoch from h.silent)::float8,
                'usual_seconds', extract(epoch from h.usual)::float8,
                'alarm_seconds', extract(epoch from h.alarm_after)::float8,
                'is_silent', h.is_alarm,
                'runs', (
                    select coalesce(json_agg(json_build_object(
                        'kind', k.kind, 'state', l.state, 'reason', l.reason, 'began_at', l.created_at, 'finished_at', l.finished_at,
                        'options', l.options
                    )), '[]')
                    from unnest(array['backfill', 'reconcile']) as k (kind)
                    cross join lateral (
                        select r.state, r.reason, r.created_at, r.finished_at, r.options
                        from mirror.sync_runs as r
                        where r.integration_id = h.integration_id and r.kind = k.kind
                        order by r.id desc
                        limit 1
                    ) as l
                ),
                'drift', (
                    select coalesce(json_agg(json_build_object(
                        'entity', n.entity, 'missing', l.missing, 'stale', l.stale, 'gone', l.gone, 'never_sent', l.never_sent,
                        'differing', l.differing, 'at', l.created_at
                    )), '[]')
                    from unnest(array['customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'])
                        as n (entity)
                    cross join lateral (
                        select d.missing, d.stale, d.gone, d.never_sent, d.differing, d.created_at
                        from mirror.drift as d
                        inner join mirror.sync_runs as r on r.id = d.run_id and r.kind = 'reconcile'
                        where d.integration_id = h.integration_id and d.entity = n.entity
                        order by d.created_at desc
                        limit 1
                    ) as l
                )
            ) order by h.slug)
            from mirror.hook_silence() as h
        ), '[]'),
        'tables', json_build_object(
            'customers', mirror.count_rows('public.customers'),
            'customer_addresses', mirror.count_rows('public.customer_addresses'),
            'customer_orders_summary', mirror.count_rows('public.customer_orders_summary'),
            'customer_order_items', mirror.count_rows('public.customer_order_items'),
            'order_delivery_status', mirror.count_rows('public.order_delivery_status'),
            'order_delivery_status_events', mirror.count_rows('public.order_delivery_status_events')
        )
    )
$$;

comment on function mirror.get_status() is
'How the mirror does: events by state, the age in seconds of the oldest pending one, the newest dead letters, commands that '
'wait, and the way back of each integration, the books in Lexware Office, alarms, the last runs and the drift of each '
'integration, '
'rows per table. Cheap however big the tables are.';
revoke execute on function mirror.get_status() from public;
grant execute on function mirror.get_status() to service_role;
