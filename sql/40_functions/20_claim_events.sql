create function mirror.claim_events(p_claim uuid, p_limit integer, p_lease interval)
returns table (
    id uuid,
    integration_id uuid,
    event_type text,
    payload json,
    attempts integer
)
language sql
set search_path = ''
-- By the index, in its order: a planner that does not know how the inbox has grown would sort all that wait, for each slice.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
    -- Materialized: a plan that ran this twice would lock, and lease, more than p_limit.
    with due as materialized (
        select w.id
        from mirror.webhook_events as w
        where w.state = 'pending' and w.available_at <= now()
        order by w.available_at, w.id
        limit p_limit
        for update skip locked
    )
    update mirror.webhook_events as e
    set
        claimed_by = p_claim,
        available_at = now() + p_lease,
        attempts = e.attempts + 1
    from due
    where e.id = due.id
    returning e.id, e.integration_id, e.event_type, e.payload, e.attempts
$$;

comment on function mirror.claim_events(uuid, integer, interval) is
'Leases up to p_limit pending events to the claim p_claim (a fresh UUID) for p_lease. What is not settled by then may be '
'claimed by anyone.';
revoke execute on function mirror.claim_events(uuid, integer, interval) from public;
grant execute on function mirror.claim_events(uuid, integer, interval) to service_role;
