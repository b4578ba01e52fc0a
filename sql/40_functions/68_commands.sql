-- The way back: what admins change becomes commands, which are claimed, handed out and settled. See mirror.outbox.

create function mirror.delivery_payload(p_status public.order_delivery_status) returns jsonb
language sql immutable
set search_path = ''
as $$
    select jsonb_build_object('stage', p_status.stage, 'tracking_number', p_status.tracking_number)
$$;

comment on function mirror.delivery_payload(public.order_delivery_status) is 'What set_delivery says of a delivery.';
revoke execute on function mirror.delivery_payload(public.order_delivery_status) from public;
grant execute on function mirror.delivery_payload(public.order_delivery_status) to service_role;

create function mirror.is_undelivered(
    p_status public.order_delivery_status, p_order public.customer_orders_summary
) returns boolean
language sql immutable
set search_path = ''
as $$
    select
        (p_status.stage, p_status.tracking_number)
        is distinct from (p_order.source_delivery_stage, p_order.source_tracking_number)
$$;

comment on function mirror.is_undelivered(public.order_delivery_status, public.customer_orders_summary) is
'Whether stage or tracking number of an order are not what it and the engine agree on.';
revoke execute on function mirror.is_undelivered(public.order_delivery_status, public.customer_orders_summary) from public;
grant execute on function mirror.is_undelivered(public.order_delivery_status, public.customer_orders_summary) to service_role;

create function mirror.queue_commands(
    p_orders uuid[],
    p_stage_set uuid[] default '{}',
    p_number_set uuid[] default '{}'
) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_now constant timestamptz := clock_timestamp();
    v_queued integer;
begin
    if cardinality(p_orders) = 0 then
        return 0;
    end if;

    -- A command that may have reached the engine, or that this transaction has queued, says it anew.
    update mirror.outbox as c
    set
        payload = mirror.delivery_payload(s),
        stage_set_at = case when c.order_summary_id = any(p_stage_set) then v_now else c.stage_set_at end,
        tracking_number_set_at = case when c.order_summary_id = any(p_number_set) then v_now else c.tracking_number_set_at end,
        available_at = case when c.claimed_by is null then now() else c.available_at end,
        attempts = case when c.claimed_by is null then 0 else c.attempts end
    from public.order_delivery_status as s
    where
        s.order_summary_id = c.order_summary_id and c.order_summary_id = any(p_orders) and c.state = 'pending'
        and (c.handed_out is not null or c.created_at = now());

    update mirror.outbox as c
    set state = 'skipped', reason = 'superseded by a newer change', settled_at = now(), claimed_by = null
    where
        c.order_summary_id = any(p_orders) and c.state = 'pending'
        and c.handed_out is null and c.created_at < now();

    insert into mirror.outbox as c (
        store_id, integration_id, order_summary_id, command, payload, stage_set_at, tracking_number_set_at
    )
    select
        s.store_id, i.id, s.order_summary_id, 'set_delivery', mirror.delivery_payload(s),
        case when s.order_summary_id = any(p_stage_set) then v_now else before.stage_set_at end,
        case when s.order_summary_id = any(p_number_set) then v_now else before.tracking_number_set_at end
    from public.order_delivery_status as s
    inner join public.customer_orders_summary as o on o.id = s.order_summary_id
    cross join lateral (
        select k.id
        from mirror.integrations as k
        where k.store_id = o.store_id and k.engine = o.source
        order by k.is_active desc, k.id
        limit 1
    ) as i
    left join lateral (
        -- What an earlier command was to say, and the engine was not told.
        select l.stage_set_at, l.tracking_number_set_at
        from (
            select k.state, k.settled_at, k.stage_set_at, k.tracking_number_set_at
            from mirror.outbox as k
            where k.order_summary_id = s.order_summary_id
            order by k.created_at desc, k.id desc
            limit 1
        ) as l
        where l.state <> 'sent' or l.settled_at = now()
    ) as before on true
    where s.order_summary_id = any(p_orders)
    on conflict (order_summary_id, command) where state = 'pending' do nothing;

    select count(*) into v_queued
    from mirror.outbox as c
    where c.order_summary_id = any(p_orders) and c.state = 'pending';
    if v_queued > 0 then
        perform pg_notify('mirror_outbox', '');
    end if;
    return v_queued;
end
$$;

comment on function mirror.queue_commands(uuid[], uuid[], uuid[]) is
'Queues what is to be told to the engine of these orders, and wakes the daemon; returns how many wait. p_stage_set, '
'p_number_set: those whose stage or number has just been set.';
revoke execute on function mirror.queue_commands(uuid[], uuid[], uuid[]) from public;
grant execute on function mirror.queue_commands(uuid[], uuid[], uuid[]) to service_role;

create function mirror.claim_commands(p_claim uuid, p_integration_id uuid, p_limit integer, p_lease interval)
returns table (id uuid, source_id text, attempts integer)
language sql
set search_path = ''
as $$
    -- Materialized: see mirror.claim_events.
    with due as materialized (
        select c.id
        from mirror.outbox as c
        where
            c.state = 'pending' and c.available_at <= now() and c.integration_id = p_integration_id
            and not exists (
                select from mirror.sync_conflicts as k
                where k.order_summary_id = c.order_summary_id and k.resolved_at is null
            )
        order by c.available_at, c.id
        limit p_limit
        for update skip locked
    )
    update mirror.outbox as c
    set claimed_by = p_claim, available_at = now() + p_lease, attempts = c.attempts + 1
    from due, public.customer_orders_summary as o
    where c.id = due.id and o.id = c.order_summary_id
    returning c.id, o.source_id, c.attempts
$$;

comment on function mirror.claim_commands(uuid, uuid, integer, interval) is
'Leases up to p_limit due commands of an integration to the claim p_claim (a fresh UUID) for p_lease, but none of an order about '
'which a conflict is open. What is not settled by then may be claimed by anyone.';
revoke execute on function mirror.claim_commands(uuid, uuid, integer, interval) from public;
grant execute on function mirror.claim_commands(uuid, uuid, integer, interval) to service_role;

create function mirror.lock_commands(p_claim uuid, p_commands uuid[], p_records json) returns uuid[]
language plpgsql
set search_path = ''
as $$
declare
    v_store_id uuid;
    v_source public.commerce_engine;
    v_source_ids text[];
begin
    perform mirror.take_turn(p_together => true);
    select i.store_id, i.engine, array_agg(o.source_id) into v_store_id, v_source, v_source_ids
    from mirror.outbox as c
    inner join mirror.integrations as i on i.id = c.integration_id
    inner join public.customer_orders_summary as o on o.id = c.order_summary_id
    where c.id = any(p_commands)
    group by i.store_id, i.engine;

    -- In the order in which apply_records locks: customers, then orders.
    perform mirror.lock_customers(v_store_id, v_source, array(
        select json_array_elements_text(p_records #> '{0,orders,customer_source_id}')
        union
        select k.source_id
        from public.customer_orders_summary as o
        inner join public.customers as k on k.id = o.customer_id
        where o.store_id = v_store_id and o.source = v_source and o.source_id = any(v_source_ids)
    ));
    perform mirror.lock_orders(v_store_id, v_source, v_source_ids);
    return array(
        select c.id
        from mirror.outbox as c
        where c.id = any(p_commands) and c.claimed_by = p_claim and c.state = 'pending'
    );
end
$$;

comment on function mirror.lock_commands(uuid, uuid[], json) is
'Locks the orders of these commands, which are one integration''s, and the customers that p_records names, as apply_records '
'would; returns the commands that the claim still holds.';
revoke execute on function mirror.lock_commands(uuid, uuid[], json) from public;
grant execute on function mirror.lock_commands(uuid, uuid[], json) to service_role;

create function mirror.end_commands(p_commands uuid[], p_state mirror.command_state, p_reason text default null) returns void
language plpgsql
set search_path = ''
as $$
begin
    update mirror.outbox as c
    set
        state = p_state,
        reason = p_reason,
        settled_at = now(),
        claimed_by = null,
        payload = case when p_state in ('sent', 'dead') then coalesce(c.handed_out, c.payload) else c.payload end
    where c.id = any(p_commands);

    -- What both do not agree on by now is a command of its own; after one that was not sent, only what was set since.
    perform mirror.queue_commands(array(
        select s.order_summary_id
        from mirror.outbox as c
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        inner join public.order_delivery_status as s on s.order_summary_id = o.id
        where
            c.id = any(p_commands) and (p_state = 'sent' or c.handed_out <> mirror.delivery_payload(s))
            and not s.is_cancelled and mirror.is_undelivered(s, o)
    ));
end
$$;

comment on function mirror.end_commands(uuid[], mirror.command_state, text) is
'Settles pending commands for good, and queues what the engine is still to be told of their orders.';
revoke execute on function mirror.end_commands(uuid[], mirror.command_state, text) from public;
grant execute on function mirror.end_commands(uuid[], mirror.command_state, text) to service_role;

create function mirror.count_ended(p_commands uuid[]) returns jsonb
language sql stable
set search_path = ''
as $$
    select jsonb_build_object(
        'sent', count(*) filter (where c.state = 'sent'),
        'skipped', count(*) filter (where c.state::text = 'skipped'),
        'dead', count(*) filter (where c.state = 'dead'),
        'retried', count(*) filter (where c.state = 'pending' and c.claimed_by is null)
    )
    from mirror.outbox as c
    where c.id = any(p_commands)
$$;

comment on function mirror.count_ended(
    uuid[]
) is 'How many of these commands were sent, skipped, refused, or given back for later.';
revoke execute on function mirror.count_ended(uuid[]) from public;
grant execute on function mirror.count_ended(uuid[]) to service_role;

create function mirror.hand_out_commands(p_claim uuid, p_commands uuid[], p_records json) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_held uuid[];
begin
    v_held := mirror.lock_commands(p_claim, p_commands, p_records);
    perform mirror.apply_records(p_records);

    perform mirror.end_commands(array(
        select c.id from mirror.outbox as c where c.id = any(v_held) and c.state = 'pending' and c.is_confirmed
    ), 'sent');
    perform mirror.end_commands(array(
        select c.id
        from mirror.outbox as c
        inner join public.order_delivery_status as s on s.order_summary_id = c.order_summary_id
        where c.id = any(v_held) and c.state = 'pending' and s.is_cancelled
    ), 'skipped', 'the order is cancelled or deleted in the shop');
    perform mirror.end_commands(array(
        select c.id
        from mirror.outbox as c
        inner join public.order_delivery_status as s on s.order_summary_id = c.order_summary_id
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        where c.id = any(v_held) and c.state = 'pending' and not mirror.is_undelivered(s, o)
    ), 'skipped', 'the shop has it already');

    update mirror.outbox as c
    set
        claimed_by = null, available_at = now(), attempts = 0, handed_out = null,
        reason = 'both sides have changed it: choose one in mirror.sync_conflicts'
    from mirror.sync_conflicts as k
    where c.id = any(v_held) and c.state = 'pending' and k.order_summary_id = c.order_summary_id and k.resolved_at is null;

    update mirror.outbox as c
    set payload = mirror.delivery_payload(s), handed_out = mirror.delivery_payload(s)
    from public.order_delivery_status as s
    where c.id = any(v_held) and c.claimed_by = p_claim and s.order_summary_id = c.order_summary_id;
    perform mirror.note_handed_out(array(
        select c.id from mirror.outbox as c where c.id = any(v_held) and c.claimed_by = p_claim
    ));

    return mirror.count_ended(v_held) || jsonb_build_object('handed_out', coalesce((
        select jsonb_agg(jsonb_build_object(
            'id', c.id, 'source_id', o.source_id, 'attempts', c.attempts, 'delivery', c.handed_out
        ) order by c.created_at, c.id)
        from mirror.outbox as c
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        where c.id = any(v_held) and c.claimed_by = p_claim
    ), '[]'));
end
$$;

comment on function mirror.hand_out_commands(uuid, uuid[], json) is
'Applies what the engine says now of the orders of these commands, and gives back those that it is still to be told: '
'{"handed_out": [{"id", "source_id", "attempts", "delivery": {"stage", "tracking_number"}}], "sent", "skipped", "dead", '
'"retried"}; the last four count what needs no telling now. p_records as apply_records takes it.';
revoke execute on function mirror.hand_out_commands(uuid, uuid[], json) from public;
grant execute on function mirror.hand_out_commands(uuid, uuid[], json) to service_role;

create function mirror.settle_commands(p_claim uuid, p_records json, p_settlements json) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
    v_settlements mirror.settlement_columns := json_populate_record(null::mirror.settlement_columns, p_settlements);
    v_read constant text[] := array(
        select json_array_elements_text(p_records #> '{0,orders,source_id}')
        union all
        select json_array_elements_text(p_records #> '{0,deleted_orders,source_id}')
    );
    v_held uuid[];
    v_taken uuid[];
    v_ended record;
    v_actor text;
begin
    v_held := mirror.lock_commands(p_claim, v_settlements.id, p_records);
    -- It is the engine's word that follows, and with it daemons take their turns together.
    select mirror.act_as('engine:' || i.engine) into v_actor
    from mirror.outbox as c
    inner join mirror.integrations as i on i.id = c.integration_id
    where c.id = v_settlements.id[1];
    v_taken := mirror.confirm_commands(array(
        select s.id
        from unnest(v_settlements.id, v_settlements.outcome) as s (id, outcome)
        where s.id = any(v_held) and s.outcome in ('sent', 'unread')
    ));
    -- What the engine said before it took them is no longer what it says: until it is read again, nobody knows.
    update public.customer_orders_summary as o set source_hash = null where o.id = any(v_taken);
    perform mirror.act_as(v_actor);
    perform mirror.apply_records(p_records);

    for v_ended in
        select ends.state, ends.reason, array_agg(c.id) as commands
        from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
            as s (id, outcome, reason, retry_after)
        inner join mirror.outbox as c on c.id = s.id and c.claimed_by = p_claim
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        cross join lateral (
            -- What the engine has was sent, whatever the sender was answered; but until it is read again, nobody knows which
            -- entry of the engine's history came of it.
            select
                (case
                    when c.is_confirmed then 'sent'
                    when s.outcome = 'retry' then 'dead' -- nobody tries so often
                    else s.outcome
                end)::mirror.command_state as state,
                case when not c.is_confirmed then s.reason end as reason
            where
                c.is_confirmed and (o.source_id = any(v_read) or c.change_source_id is not null)
                or s.outcome = 'skipped'
                or not c.is_confirmed and (
                    s.outcome = 'dead'
                    or s.outcome = 'retry' and coalesce(
                        make_interval(secs => s.retry_after), mirror.retry_wait('command', c.attempts)
                    ) is null
                )
        ) as ends
        where c.id = any(v_held)
        group by ends.state, ends.reason
    loop
        perform mirror.end_commands(v_ended.commands, v_ended.state, v_ended.reason);
    end loop;

    update mirror.outbox as c
    set
        claimed_by = null,
        reason = s.reason,
        available_at = now() + coalesce(
            make_interval(secs => s.retry_after), mirror.retry_wait('command', c.attempts), interval '1 hour'
        )
    from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
        as s (id, outcome, reason, retry_after)
    where c.id = s.id and c.id = any(v_held) and c.claimed_by = p_claim;
    return mirror.count_ended(v_held);
end
$$;

comment on function mirror.settle_commands(uuid, json, json) is
'Applies what the engine says after the sending, and ends the lease of commands: outcome sent, skipped or dead (with a reason), '
'retry after so many seconds, or, where none are given, as mirror.retry_schedule says, or unread: the engine took it, but could '
'not be asked again. What the engine shows to have counts as sent in any case, what it took as soon as it is read again; what '
'the claim no longer holds is left alone. Returns how many were sent, skipped, dead and retried.';
revoke execute on function mirror.settle_commands(uuid, json, json) from public;
grant execute on function mirror.settle_commands(uuid, json, json) to service_role;

create function mirror.count_commands() returns table (
    integration text,
    is_active boolean,
    waiting bigint,
    waiting_since timestamptz,
    reason text,
    refused bigint,
    conflicts bigint
)
language sql stable
set search_path = ''
as $$
    select
        i.slug, i.is_active, coalesce(w.commands, 0), w.since, w.reason,
        (
            select count(*)
            from mirror.undelivered_orders as u
            where u.integration_id = i.id and u.reason = 'not told to the shop'
        ),
        (select count(*) from mirror.sync_conflicts as k where k.integration_id = i.id and k.resolved_at is null)
    from mirror.integrations as i
    left join (
        select
            c.integration_id, count(*) as commands, min(c.created_at) as since,
            (array_agg(c.reason order by c.updated_at desc) filter (where c.reason is not null))[1] as reason
        from mirror.outbox as c
        where c.state = 'pending'
        group by c.integration_id
    ) as w on w.integration_id = i.id
    order by i.slug
$$;

comment on function mirror.count_commands() is
'The way back, by integration: commands that wait, since when, and why the latest that was tried did not go through; orders of '
'which the engine refused the last command, and open conflicts.';
revoke execute on function mirror.count_commands() from public;
grant execute on function mirror.count_commands() to service_role;

create function public.resend_order_deliveries(order_code text default null) returns integer
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.take_turn();
    return mirror.queue_commands(array(
        select o.id
        from public.customer_orders_summary as o
        inner join mirror.undelivered_orders as u on u.order_summary_id = o.id and u.reason = 'not told to the shop'
        where o.order_code = resend_order_deliveries.order_code or resend_order_deliveries.order_code is null
    ));
end
$$;

comment on function public.resend_order_deliveries(text) is
'Tells the shop once more what it has refused, of one order or of all; returns how many. For after the cause is mended.';
revoke execute on function public.resend_order_deliveries(text) from public;
grant execute on function public.resend_order_deliveries(text) to service_role;
