create type mirror.settlement_columns as (
    id uuid [],
    outcome text [],
    reason text [],
    retry_after double precision []
);

create function mirror.settle_events(p_claim uuid, p_settlements json) returns integer
language plpgsql
set search_path = ''
-- One look-up each: a planner that does not know how the inbox has grown would read all of it, for each slice.
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
    v_settlements mirror.settlement_columns
        := json_populate_record(null::mirror.settlement_columns, p_settlements);
    v_settled integer;
begin
    update mirror.webhook_events as e
    set
        state = (case s.outcome when 'retry' then 'pending' else s.outcome end)::mirror.event_state,
        reason = s.reason,
        claimed_by = null,
        available_at = case
            when s.outcome = 'retry'
                then now() + coalesce(make_interval(secs => s.retry_after), mirror.retry_wait('event', e.attempts))
            else e.available_at
        end,
        settled_at = case when s.outcome <> 'retry' then now() end
    from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
        as s (id, outcome, reason, retry_after)
    where e.id = s.id and e.claimed_by = p_claim and e.settled_at is null; -- not `state`: its index leads to all that wait
    get diagnostics v_settled = row_count;

    if v_settled <> cardinality(v_settlements.id) then
        raise exception 'claim % holds only % of the % events that it settles', p_claim, v_settled,
            cardinality(v_settlements.id)
        using
            errcode = 'lock_not_available',
            hint = 'The lease lapsed and another worker took them over: roll back, and leave them to it.';
    end if;
    return v_settled;
end
$$;

comment on function mirror.settle_events(uuid, json) is
'Ends the lease of events: outcome applied, skipped or dead (the last two with a reason), or retry after so many seconds, or, '
'where none are given, as mirror.retry_schedule says. Fails, so that the caller''s transaction rolls back, if the claim no '
'longer holds every one of them.';
revoke execute on function mirror.settle_events(uuid, json) from public;
grant execute on function mirror.settle_events(uuid, json) to service_role;
