-- The outbox to Lexware Office: claim, ask, settle.

create function mirror.take_in_hand(p_log public.lexoffice_sync_logs, p_claim uuid, p_lease interval) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_invoice public.invoices;
    v_judged record;
    v_taken jsonb;
    v_wait interval;
begin
    select i.* into strict v_invoice from public.invoices as i where i.id = p_log.invoice_id;
    select j.* into v_judged from mirror.judge_invoice(v_invoice) as j;
    -- Of what may be there already nothing is decided before Lexware Office was asked.
    if v_judged.verdict = 'book' or p_log.requested_at is not null then
        update public.lexoffice_sync_logs as l
        set
            claimed_by = p_claim, available_at = now() + p_lease, attempts = l.attempts + 1, judged_at = now(),
            voucher_number = coalesce(case when l.requested_at is not null then l.voucher_number end, v_invoice.number),
            payload_hash = case when l.requested_at is null then mirror.payload_hash(v_judged.payload) else l.payload_hash end,
            invoice_hash = case when l.requested_at is null then mirror.invoice_hash(v_invoice) else l.invoice_hash end
        where l.id = p_log.id
        returning jsonb_build_object(
            'id', l.id, 'number', l.voucher_number, 'attempts', l.attempts, 'payload', v_judged.payload::text
        )
        into strict v_taken;
        return v_taken;
    end if;

    v_wait := case when v_judged.verdict = 'wait' then mirror.retry_wait('command', p_log.attempts + 1) end;
    update public.lexoffice_sync_logs as l
    set
        status = (case
            when v_wait is not null then 'pending' when v_judged.verdict = 'skip' then 'skipped' else 'refused'
        end)::public.lexoffice_sync_status,
        reason = v_judged.reason, response = null, claimed_by = null, voucher_number = v_invoice.number,
        attempts = l.attempts + 1, judged_at = now(),
        available_at = now() + coalesce(v_wait, '0'),
        settled_at = case when v_wait is null then now() end
    where l.id = p_log.id;
    return null;
end
$$;

comment on function mirror.take_in_hand(public.lexoffice_sync_logs, uuid, interval) is
'Leases an invoice to a claim, or says what becomes of it instead: part of claim_invoices.';
revoke execute on function mirror.take_in_hand(public.lexoffice_sync_logs, uuid, interval) from public;
grant execute on function mirror.take_in_hand(public.lexoffice_sync_logs, uuid, interval) to service_role;

create function mirror.count_pushes(p_logs uuid[]) returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'sent', count(*) filter (where l.status in ('sent', 'to_correct')),
        'skipped', count(*) filter (where l.status = 'skipped'),
        'refused', count(*) filter (where l.status = 'refused'),
        'retried', count(*) filter (where l.status = 'pending' and l.claimed_by is null)
    )
    from public.lexoffice_sync_logs as l
    where l.id = any(p_logs)
$$;

comment on function mirror.count_pushes(uuid[]) is 'How many of these were sent, skipped, refused, or given back for later.';
revoke execute on function mirror.count_pushes(uuid[]) from public;
grant execute on function mirror.count_pushes(uuid[]) to service_role;

create function mirror.claim_invoices(p_claim uuid, p_limit integer, p_lease interval) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_actor constant text := mirror.act_as('engine:lexoffice');
    v_log public.lexoffice_sync_logs;
    v_claimed jsonb := '[]';
    v_due uuid[] := '{}';
begin
    -- One at a time: of two invoices with the same number the second must see the first.
    perform pg_advisory_xact_lock(hashtextextended('commerce-mirror: lexoffice', 0));
    update mirror.lexoffice_settings as t
    set books_since = (now() at time zone s.timezone)::date
    from public.stores as s
    where t.is_active and t.books_since is null and s.id = t.store_id;
    perform mirror.reconsider_invoices();

    for v_log in
        select l.*
        from public.lexoffice_sync_logs as l
        inner join mirror.lexoffice_settings as t on t.store_id = l.store_id and t.is_active
        where
            l.status = 'pending' and l.available_at <= now()
            -- What was asked for may still be under way: Lexware Office gives up after half a minute.
            and (l.requested_at is null or l.requested_at <= now() - interval '2 minutes')
        order by l.available_at, l.id
        limit p_limit
        for update of l skip locked
    loop
        v_due := v_due || v_log.id;
        v_claimed := v_claimed || coalesce(mirror.take_in_hand(v_log, p_claim, p_lease), '[]');
    end loop;
    perform mirror.act_as(v_actor);
    return mirror.count_pushes(v_due) || jsonb_build_object('claimed', v_claimed, 'due', cardinality(v_due));
end
$$;

comment on function mirror.claim_invoices(uuid, integer, interval) is
'Leases up to p_limit due invoices to the claim p_claim (a fresh UUID) for p_lease; those that cannot be booked are refused, '
'skipped '
'or put off instead: {"claimed": [{"id", "number", "attempts", "payload"}], "due", "sent", "skipped", "refused", "retried"}. '
'Without '
'payload it is only to be looked for. What is not settled by the end of the lease may be claimed by anyone.';
revoke execute on function mirror.claim_invoices(uuid, integer, interval) from public;
grant execute on function mirror.claim_invoices(uuid, integer, interval) to service_role;

create function mirror.begin_request(
    p_claim uuid, p_log uuid, p_creates boolean
) returns table (may_ask boolean, wait_seconds float8)
language plpgsql
set search_path = ''
as $$
declare
    v_actor constant text := mirror.act_as('engine:lexoffice');
    v_lease_ends timestamptz;
    v_at timestamptz;
begin
    select l.available_at into v_lease_ends
    from public.lexoffice_sync_logs as l
    where l.id = p_log and l.claimed_by = p_claim and l.status = 'pending'
    for update;
    select greatest(p.next_at, clock_timestamp()) into strict v_at from mirror.lexoffice_pace as p for update;

    wait_seconds := extract(epoch from v_at - clock_timestamp());
    may_ask := coalesce(wait_seconds <= 30 and v_at + interval '1 minute' <= v_lease_ends, false);
    if may_ask then
        update mirror.lexoffice_pace as p set next_at = v_at + p.spacing;
        if p_creates then
            update public.lexoffice_sync_logs as l set requested_at = v_at where l.id = p_log;
        end if;
    end if;
    perform mirror.act_as(v_actor);
    return next;
end
$$;

comment on function mirror.begin_request(uuid, uuid, boolean) is
'Gives whoever holds the claim a turn to ask Lexware Office, wait_seconds from now; p_creates: to create the voucher, which is '
'noted '
'first. Not may_ask: the lease is over or will be soon, or all must wait for so long.';
revoke execute on function mirror.begin_request(uuid, uuid, boolean) from public;
grant execute on function mirror.begin_request(uuid, uuid, boolean) to service_role;

create type mirror.push_settlement as (
    id uuid [],
    outcome text [],
    reason text [],
    voucher_id text [],
    response text [],
    retry_after float8 []
);

create function mirror.settle_invoices(p_claim uuid, p_settlements jsonb) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_actor constant text := mirror.act_as('engine:lexoffice');
    v_settlements constant mirror.push_settlement := jsonb_populate_record(null::mirror.push_settlement, p_settlements);
    v_settled uuid[];
begin
    with settled as (
        update public.lexoffice_sync_logs as l
        set
            status = n.status,
            reason = n.reason,
            voucher_id = case when s.outcome = 'sent' then s.voucher_id else l.voucher_id end,
            response = coalesce(s.response::jsonb, l.response),
            requested_at = case when s.outcome in ('returned', 'unknown') then l.requested_at end,
            attempts = l.attempts - case when s.outcome = 'returned' and l.attempts > 0 then 1 else 0 end,
            claimed_by = null,
            available_at = now() + coalesce(n.wait, '0'),
            settled_at = case when n.status <> 'pending' then now() end
        from unnest(
            v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.voucher_id, v_settlements.response,
            v_settlements.retry_after
        ) as s (id, outcome, reason, voucher_id, response, retry_after)
        inner join public.lexoffice_sync_logs as k on k.id = s.id
        inner join public.invoices as i on i.id = k.invoice_id
        cross join lateral (
            select
                case when s.outcome in ('returned', 'absent', 'retry', 'unknown')
                    then coalesce(make_interval(secs => s.retry_after), mirror.retry_wait('command', k.attempts)) end as wait,
                mirror.why_correct(i, k.invoice_hash) as to_correct
        ) as w
        cross join lateral (
            select
                w.wait,
                (case
                    when w.wait is not null then 'pending'
                    when s.outcome <> 'sent' then 'refused'
                    when w.to_correct is not null then 'to_correct'
                    else 'sent'
                end)::public.lexoffice_sync_status as status,
                case
                    when s.outcome = 'sent' then w.to_correct
                    when s.outcome = 'refused' or w.wait is not null then coalesce(s.reason, k.reason)
                    else format('given up after %s attempts; the last: %s', k.attempts, s.reason)
                end as reason
        ) as n
        where l.id = s.id and l.claimed_by = p_claim and l.status = 'pending'
        returning l.id
    )
    select coalesce(array_agg(s.id), '{}') into v_settled from settled as s;
    if 'sent' = any(v_settlements.outcome) then
        update mirror.lexoffice_pace as p set strikes = 0 where p.strikes > 0;
    end if;
    perform mirror.act_as(v_actor);
    return mirror.count_pushes(v_settled);
end
$$;

comment on function mirror.settle_invoices(uuid, jsonb) is
'Ends the lease of invoices: outcome sent (with voucher_id), refused (with reason), retry (Lexware Office did nothing), '
'unknown (it '
'may have created the voucher), absent (it has none, and was not asked for one) or returned (nothing came of it, and the attempt '
'does not count). The last four come round after so many seconds, or where none are given as mirror.retry_schedule has it for '
'commands. What the claim no longer holds is left alone. Returns how many were sent, skipped, refused and retried.';
revoke execute on function mirror.settle_invoices(uuid, jsonb) from public;
grant execute on function mirror.settle_invoices(uuid, jsonb) to service_role;

create function mirror.slow_lexoffice(p_seconds float8 default null) returns float8
language sql
set search_path = ''
as $$
    update mirror.lexoffice_pace as p
    set
        strikes = least(p.strikes + 1, 10),
        next_at = greatest(
            p.next_at, clock_timestamp() + make_interval(secs => coalesce(p_seconds, least(2 ^ (p.strikes + 1), 120)))
        )
    returning extract(epoch from p.next_at - clock_timestamp())::float8
$$;

comment on function mirror.slow_lexoffice(float8) is
'Lexware Office has had too many requests: nobody asks for p_seconds, or for twice as long as the time before. Returns for how '
'long.';
revoke execute on function mirror.slow_lexoffice(float8) from public;
grant execute on function mirror.slow_lexoffice(float8) to service_role;

create function mirror.count_books() returns table (
    store text, waiting bigint, waiting_since timestamptz, reason text, sent bigint, skipped bigint, refused bigint,
    to_correct bigint, last_refusal text
)
language sql stable
set search_path = ''
as $$
    select
        s.slug,
        count(*) filter (where l.status = 'pending'),
        min(l.created_at) filter (where l.status = 'pending'),
        (array_agg(l.reason order by l.updated_at desc) filter (where l.status = 'pending' and l.reason is not null))[1],
        count(*) filter (where l.status = 'sent'),
        count(*) filter (where l.status = 'skipped'),
        count(*) filter (where l.status = 'refused'),
        count(*) filter (where l.status = 'to_correct'),
        (
            array_agg(format('invoice %s: %s', coalesce(l.voucher_number, '–'), l.reason) order by l.settled_at desc)
            filter (where l.status in ('refused', 'to_correct'))
        )[1]
    from public.lexoffice_sync_logs as l
    inner join public.stores as s on s.id = l.store_id
    group by s.slug
    order by s.slug
$$;

comment on function mirror.count_books() is
'How the books in Lexware Office do, by store: invoices that wait, since when, and why the latest that was tried did not go '
'through; '
'those booked, left out, refused, and to be corrected, and what the last of these two kinds is about. Stores without any are '
'not told of.';
revoke execute on function mirror.count_books() from public;
grant execute on function mirror.count_books() to service_role;
