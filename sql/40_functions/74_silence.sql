create function mirror.learn_hook_gaps() returns bigint
language plpgsql
set search_path = ''
as $$
declare
    v_learned bigint;
begin
    -- Ids follow time, so the primary key is the way through. The last minute is left alone: its transactions may still commit.
    with walked as (
        select e.id, e.integration_id, e.created_at
        from mirror.webhook_events as e
        where
            e.id > coalesce(
                (select p.last_id from mirror.hook_pulse as p order by p.last_id desc limit 1),
                '00000000-0000-0000-0000-000000000000'
            )
            and e.created_at < now() - interval '1 minute'
        order by e.id
        limit 100000
    ), gaps as (
        select
            w.id, w.integration_id, w.created_at,
            w.created_at - lag(w.created_at, 1, p.last_at) over (partition by w.integration_id order by w.id) as gap
        from walked as w
        left join mirror.hook_pulse as p on p.integration_id = w.integration_id
    ), by_day as (
        insert into mirror.hook_gaps as g (integration_id, day, hooks, longest)
        select
            gaps.integration_id, (gaps.created_at at time zone 'utc')::date, count(*),
            greatest(coalesce(max(gaps.gap), '0'), '0')
        from gaps
        group by 1, 2
        on conflict (integration_id, day) do update set
            hooks = g.hooks + excluded.hooks, longest = greatest(g.longest, excluded.longest)
        returning g.hooks
    ), latest as (
        insert into mirror.hook_pulse as p (integration_id, last_id, last_at)
        select distinct on (gaps.integration_id) gaps.integration_id, gaps.id, gaps.created_at
        from gaps
        order by gaps.integration_id, gaps.id desc
        on conflict (integration_id) do update set
            last_id = excluded.last_id, last_at = greatest(p.last_at, excluded.last_at)
    )
    select count(*) into v_learned from gaps;
    return v_learned;
end
$$;

comment on function mirror.learn_hook_gaps() is
'Looks through the part of the inbox that is new since the last time, and notes the longest wait of each day; returns how '
'many events it saw. Runs by itself every ten minutes.';
revoke execute on function mirror.learn_hook_gaps() from public;
grant execute on function mirror.learn_hook_gaps() to service_role;

create function mirror.hook_silence() returns table (
    integration_id uuid,
    slug text,
    last_hook_at timestamptz,
    silent interval,
    usual interval,
    alarm_after interval,
    is_alarm boolean
)
language sql stable
set search_path = ''
as $$
    select
        i.id, i.slug, k.last_at, now() - k.last_at, u.usual, a.alarm_after,
        coalesce(now() - k.last_at > a.alarm_after, false)
    from mirror.integrations as i
    inner join public.stores as s on s.id = i.store_id
    left join mirror.hook_pulse as p on p.integration_id = i.id
    left join lateral (
        -- After a look at the few that came since the inbox was last looked through.
        select greatest(p.last_at, max(e.created_at)) as last_at
        from mirror.webhook_events as e
        where
            e.id > coalesce(
                (select l.last_id from mirror.hook_pulse as l order by l.last_id desc limit 1),
                '00000000-0000-0000-0000-000000000000'
            )
            and e.integration_id = i.id
    ) as k on true
    left join lateral (
        select case when count(*) >= 7 then percentile_disc(0.9) within group (order by g.longest) end as usual
        from mirror.hook_gaps as g
        where g.integration_id = i.id and g.day >= current_date - 28
    ) as u on true
    cross join lateral (
        select case when u.usual is not null then greatest(u.usual * i.silence_factor::float8, i.silence_at_least) end as alarm_after
    ) as a
    where i.is_active and s.is_active
$$;

comment on function mirror.hook_silence() is
'How long each integration has been silent, and how long is usual: of the longest waits of the last 28 days, what nine of '
'ten stay within; not known before there were seven days with hooks. The alarm is on when the silence is longer than '
'silence_factor times the usual, and than silence_at_least.';
revoke execute on function mirror.hook_silence() from public;
grant execute on function mirror.hook_silence() to service_role;

create function mirror.list_alarms() returns table (
    integration text,
    alarm text,
    since timestamptz,
    detail text
)
language sql stable
set search_path = ''
as $$
    select
        h.slug, 'silence', h.last_hook_at + h.alarm_after,
        format(
            'no hook for %s; usually there is one within %s',
            date_trunc('minute', h.silent), case when h.usual < '1 minute' then 'a minute' else date_trunc('minute', h.usual)::text end
        )
    from mirror.hook_silence() as h
    where h.is_alarm
    union all
    select
        i.slug, 'hooks_not_sent', min(d.created_at),
        format('the engine changed %s customers or orders in the last day that no hook told of', sum(d.never_sent))
    from mirror.drift as d
    inner join mirror.integrations as i on i.id = d.integration_id and i.is_active
    where d.never_sent > 0 and d.created_at > now() - interval '1 day'
    group by i.slug
    union all
    select i.slug, 'reconcile_' || l.state, l.finished_at, l.reason
    from mirror.integrations as i
    cross join lateral (
        select newest.*
        from unnest(array['true', 'false']) as k (is_full)
        cross join lateral (
            select r.id, r.state, r.finished_at, r.reason
            from mirror.sync_runs as r
            where
                r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
                and r.options ->> 'is_full' = k.is_full and r.finished_at is not null
            order by r.id desc
            limit 1
        ) as newest
        -- Of what everything has shown, a window that is in order says nothing; the other way round it does.
        where newest.state in ('incomplete', 'refused') and not exists (
            select from mirror.sync_runs as r
            where
                r.integration_id = i.id and r.kind = 'reconcile' and r.options ->> 'fix' = 'true'
                and r.options ->> 'is_full' = 'true' and r.state = 'complete' and r.id > newest.id
        )
        order by newest.id desc
        limit 1
    ) as l
    where i.is_active
    order by 1, 2
$$;

comment on function mirror.list_alarms() is
'What somebody should look at. silence: no hooks for much longer than usual. hooks_not_sent: a reconcile found changes of '
'which no hook told, in the last day. reconcile_incomplete, reconcile_refused: the last one that was to heal '
'everything, or a window, did not.';
revoke execute on function mirror.list_alarms() from public;
grant execute on function mirror.list_alarms() to service_role;
