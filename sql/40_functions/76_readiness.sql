create function mirror.get_readiness(p_versions text[]) returns table (pending text[], overdue_seconds double precision)
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    select
        mirror.pending_migrations(p_versions),
        coalesce((
            select extract(epoch from now() - min(e.available_at))::double precision
            from mirror.webhook_events as e
            where e.state = 'pending' and e.available_at <= now()
        ), 0);
end
$$;

comment on function mirror.get_readiness(text[]) is
'Whether the mirror is ready: which of these migrations are missing, and for how many seconds the inbox has held an event that '
'could be applied. What waits for its next attempt does not count.';
revoke execute on function mirror.get_readiness(text[]) from public;
grant execute on function mirror.get_readiness(text[]) to service_role;

create function mirror.get_sms_usage()
returns table (store text, spent numeric, budget numeric, sent numeric, store_limit integer)
language sql stable
set search_path = ''
as $$
    select
        s.slug,
        coalesce(sum(u.used) filter (where u.scope = 'budget day'), 0),
        o.daily_budget::numeric,
        coalesce(sum(u.used) filter (where u.scope = 'store day'), 0),
        o.store_daily
    from mirror.otp_settings as o
    inner join public.stores as s on s.id = o.store_id
    left join mirror.otp_usage as u
        on u.store_id = o.store_id and u.subject = '' and u.scope in ('budget day', 'store day') and u.ends_at > now()
    where s.is_active
    group by s.slug, o.daily_budget, o.store_daily
    order by s.slug
$$;

comment on function mirror.get_sms_usage() is
'What texts have cost each store in the day that is counted now, and what they may; how many were sent, and how many may be.';
revoke execute on function mirror.get_sms_usage() from public;
grant execute on function mirror.get_sms_usage() to service_role;
