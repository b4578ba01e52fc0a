create function mirror.list_rows(
    p_integration_id uuid,
    p_entity text,
    p_since timestamptz,
    p_after text,
    p_limit integer
) returns table (source_id text, source_version timestamptz, is_live boolean)
language plpgsql stable
set search_path = ''
as $$
begin
    if p_entity = 'customer' then
        return query
        select c.source_id, c.source_version, c.deleted_at is null and c.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customers as c on c.store_id = i.store_id and c.source = i.engine
        where i.id = p_integration_id and c.source_id > p_after and (p_since is null or c.registered_at >= p_since)
        order by c.source_id
        limit p_limit;
    elsif p_entity = 'order' and p_since is null then
        return query
        select o.source_id, o.source_version, o.deleted_at is null and o.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
        where i.id = p_integration_id and o.source_id > p_after
        order by o.source_id
        limit p_limit;
    elsif p_entity = 'order' then -- few of many: by the index of order dates
        return query
        select o.source_id, o.source_version, o.deleted_at is null and o.source_version > '-infinity'
        from mirror.integrations as i
        inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.order_date >= p_since
        where i.id = p_integration_id and o.source = i.engine and o.source_id > p_after
        order by o.source_id
        limit p_limit;
    else
        return query
        select m.source_id, m.source_version, m.deleted_at is null and m.source_version > '-infinity'
        from mirror.integrations as i
        inner join mirror.provider_rows as m on m.store_id = i.store_id and m.source = i.engine and m.entity = p_entity
        where i.id = p_integration_id and m.source_id > p_after and (p_since is null or m.made_at >= p_since)
        order by m.source_id
        limit p_limit;
    end if;
end
$$;

comment on function mirror.list_rows(uuid, text, timestamptz, text, integer) is
'The p_limit entities that follow the id p_after, of those registered, placed or made since p_since, if given. Live is what is '
'neither a tombstone nor a bare reference.';
revoke execute on function mirror.list_rows(uuid, text, timestamptz, text, integer) from public;
grant execute on function mirror.list_rows(uuid, text, timestamptz, text, integer) to service_role;

create function mirror.find_gone(p_run_id uuid, p_entity text, p_after text default '', p_is_count boolean default false)
returns json
language plpgsql stable
set search_path = ''
as $$
declare
    v_page constant integer := 10000;
    v_run mirror.sync_runs;
    v_is_shared boolean;
    v_live bigint;
    v_scanned bigint;
    v_last text;
    v_gone text[];
begin
    select * into strict v_run from mirror.sync_runs as r where r.id = p_run_id;
    -- Whose an object of a payment provider is, of several accounts of a store, nobody can tell by its id.
    v_is_shared := p_entity not in ('customer', 'order') and exists (
        select
        from mirror.integrations as i
        inner join mirror.integrations as other on other.store_id = i.store_id and other.engine = i.engine and other.id <> i.id
        where i.id = v_run.integration_id
    );
    select
        count(*), max(l.source_id), count(*) filter (where l.is_live),
        -- What was read since the run began may have come since.
        array_agg(l.source_id) filter (where not v_is_shared and l.is_live and l.source_version < v_run.read_from
            and not exists (
            select from mirror.sync_seen as s
            where s.run_id = p_run_id and s.entity = p_entity and s.source_id = l.source_id
        ))
    into v_scanned, v_last, v_live, v_gone
    from mirror.list_rows(
        v_run.integration_id, p_entity, (v_run.options ->> 'since')::timestamptz, p_after, v_page
    ) as l;
    return json_build_object(
        'live', v_live,
        'last', case when v_scanned = v_page then v_last end,
        'count', coalesce(cardinality(v_gone), 0),
        'gone', case when p_is_count then '[]' else coalesce((
            select json_agg(json_build_object('source_id', c.source_id, 'state', 'gone', 'cause', c.cause, 'detail', c.detail))
            from mirror.find_causes(v_run.integration_id, p_entity, v_gone, null) as c
        ), '[]') end
    );
end
$$;

comment on function mirror.find_gone(uuid, text, text, boolean) is
'What is live here and was not listed by the engine, among the 10,000 rows that follow the id p_after: {"live": how many '
'there are, "last": the id to go on after, or null, "count", and unless only that is wanted "gone": [{"source_id", "state", '
'"cause", "detail"}]}. In a run with "since" only what was placed or registered since then. Where a store has several '
'accounts of a payment provider, nothing of theirs is gone.';
revoke execute on function mirror.find_gone(uuid, text, text, boolean) from public;
grant execute on function mirror.find_gone(uuid, text, text, boolean) to service_role;

create function mirror.refuse_gone(p_run_id uuid, p_entity text, p_gone bigint, p_live bigint) returns text
language sql stable
set search_path = ''
as $$
    select format(
        '%s of %s %ss (%s %%) are gone from the engine: more than %s %%, so none was marked deleted',
        p_gone, p_live, p_entity, round(100.0 * p_gone / p_live, 1), round(100 * a.share, 1)
    )
    from mirror.sync_runs as r
    inner join mirror.integrations as i on i.id = r.integration_id
    cross join lateral (
        select coalesce((r.options ->> 'allow_gone')::numeric, i.max_gone_share) as share
    ) as a
    where r.id = p_run_id and p_gone > 10 and p_gone > a.share * p_live
$$;

comment on function mirror.refuse_gone(uuid, text, bigint, bigint) is
'The brake: says why so many may not be taken for gone, or null if they may. Ten are always believed; beyond, a share of '
'mirror.integrations.max_gone_share, or of what the run was told to allow.';
revoke execute on function mirror.refuse_gone(uuid, text, bigint, bigint) from public;
grant execute on function mirror.refuse_gone(uuid, text, bigint, bigint) to service_role;

create function mirror.read_found(p_run_id uuid, p_entity text, p_limit integer default 20) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(f.entry order by f.entry ->> 'state', f.id), '[]')
    from (
        select ranked.entry, ranked.id
        from (
            select
                d.entry, d.id, row_number() over (partition by d.entry ->> 'state' order by d.id, d.entry ->> 'source_id') as place
            from (
                select distinct on (e.entry ->> 'source_id') e.entry, r.id
                from mirror.sync_receipts as r
                cross join lateral jsonb_array_elements(r.found) as e (entry)
                where r.run_id = p_run_id and r.entity = p_entity
                order by e.entry ->> 'source_id', r.id
            ) as d
        ) as ranked
        where ranked.place <= p_limit
    ) as f
$$;

comment on function mirror.read_found(uuid, text, integer) is
'Up to p_limit examples of each kind of what a run found to differ, as mirror.sync_receipts.found has them.';
revoke execute on function mirror.read_found(uuid, text, integer) from public;
grant execute on function mirror.read_found(uuid, text, integer) to service_role;

create function mirror.due_reconcile() returns json
language sql stable
set search_path = ''
as $$
    -- What is due, the full one first: it does the other's work, too.
    select coalesce(json_agg(json_build_object('slug', d.slug, 'is_full', d.is_full, 'since', d.since) order by d.slug), '[]')
    from (
        select
            i.slug,
            i.full_reconcile_every is not null and coalesce(
                last_full.created_at
                + case
                    when last_full.is_cut_off then least(i.full_reconcile_every, coalesce(i.reconcile_every, '1 hour'))
                    else i.full_reconcile_every
                end <= now(),
                true
            ) as is_full,
            coalesce(last_any.created_at + i.reconcile_every <= now(), i.reconcile_every is not null) as is_due,
            now() - i.reconcile_window as since
        from mirror.integrations as i
        inner join public.stores as s on s.id = i.store_id and s.is_active
        left join lateral (
            select
                r.created_at,
                -- What was read to its end has told its drift, of each entity.
                r.state in ('running', 'incomplete')
                and (select count(*) from mirror.drift as d where d.run_id = r.id) < jsonb_array_length(r.options -> 'entities')
                    as is_cut_off
            from mirror.sync_runs as r
            where
                r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
                and r.options ->> 'is_full' = 'true'
            order by r.id desc
            limit 1
        ) as last_full on true
        left join lateral (
            select r.created_at
            from mirror.sync_runs as r
            where r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
            order by r.id desc
            limit 1
        ) as last_any on true
        where
            i.is_active
            -- What was never brought over is not drift: a person begins.
            and exists (
                select from mirror.sync_runs as r
                where r.integration_id = i.id and r.kind = 'backfill' and r.state = 'complete'
            )
            and not exists (
                select from mirror.sync_runs as r
                where r.integration_id = i.id and r.state = 'running' and r.claimed_until > now()
            )
    ) as d
    where d.is_full or d.is_due
$$;

comment on function mirror.due_reconcile() is
'Which integrations the daemon is to compare with their engines now: [{"slug", "is_full", "since"}]. Those that a backfill has '
'brought over. A full one that was cut off is due again as soon as a window would be.';
revoke execute on function mirror.due_reconcile() from public;
grant execute on function mirror.due_reconcile() to service_role;
