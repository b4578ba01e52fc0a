-- What the shop is told anew of its own values stands in the history as made here, too.

create function mirror.note_what_counts(p_orders uuid[], p_stages_before jsonb default '{}') returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, note, updated_by, actor, source_id,
        updated_at
    )
    select
        s.store_id, s.order_summary_id, s.order_code,
        coalesce((p_stages_before ->> s.order_summary_id::text)::public.delivery_stage, s.stage),
        s.stage, s.tracking_number, 'this is what counts of what shop and mirror said', s.updated_by,
        (select mirror.current_actor()), mirror.uuid_v7()::text,
        greatest(clock_timestamp(), latest.updated_at + interval '1 microsecond')
    from public.order_delivery_status as s
    cross join lateral (
        select max(e.updated_at) as updated_at
        from public.order_delivery_status_events as e
        where e.order_summary_id = s.order_summary_id
    ) as latest
    where s.order_summary_id = any(p_orders);
end
$$;

comment on function mirror.note_what_counts(uuid[], jsonb) is
'Adds an entry of the mirror''s own, which says what holds, to the history of these orders. p_stages_before: see '
'complete_history.';
revoke execute on function mirror.note_what_counts(uuid[], jsonb) from public;
grant execute on function mirror.note_what_counts(uuid[], jsonb) to service_role;

create or replace function mirror.complete_history(p_orders uuid[], p_stages_before jsonb) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.note_what_counts(
        array(
            select s.order_summary_id
            from public.order_delivery_status as s
            cross join lateral (
                select e.stage, e.tracking_number
                from public.order_delivery_status_events as e
                where e.order_summary_id = s.order_summary_id
                order by e.updated_at desc, e.id desc
                limit 1
            ) as latest
            where
                s.order_summary_id = any(p_orders)
                and (s.stage, s.tracking_number) is distinct from (latest.stage, latest.tracking_number)
                and not exists (
                    select from mirror.sync_conflicts as k
                    where k.order_summary_id = s.order_summary_id and k.resolved_at is null
                )
        ),
        p_stages_before
    );
end
$$;

comment on function mirror.complete_history(uuid[], jsonb) is
'Lets the history of these orders end with what holds, where two sides had changed it and the later entry is not what counts. '
'p_stages_before: by order, the stage that it had before.';

create function mirror.is_made_here(
    p_entry public.order_delivery_status_events, p_source public.commerce_engine
) returns boolean
language sql stable
set search_path = ''
as $$
    -- A note is the mirror's own, see mirror.note_what_counts.
    select coalesce(p_entry.actor, 'engine:' || p_entry.updated_by) <> 'engine:' || p_source or p_entry.note is not null
$$;

comment on function mirror.is_made_here(public.order_delivery_status_events, public.commerce_engine) is
'Whether an entry of the history was made here, by an admin or the mirror itself; else the order''s engine told it.';
revoke execute on function mirror.is_made_here(public.order_delivery_status_events, public.commerce_engine) from public;
grant execute on function mirror.is_made_here(public.order_delivery_status_events, public.commerce_engine) to service_role;

create function mirror.note_handed_out(p_commands uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.note_what_counts(array(
        select c.order_summary_id
        from mirror.outbox as c
        inner join public.customer_orders_summary as o on o.id = c.order_summary_id
        where
            c.id = any(p_commands)
            and not exists (
                select from public.order_delivery_status_events as e
                where
                    e.order_summary_id = o.id and mirror.is_made_here(e, o.source)
                    and c.handed_out = jsonb_build_object('stage', e.stage, 'tracking_number', e.tracking_number)
            )
    ));
end
$$;

comment on function mirror.note_handed_out(uuid[]) is
'Sees that what was handed out of these commands stands in the history as made here, for the engine''s entry of it is kept out. '
'It does not if the engine is told its own values anew, because a sender was on its way when they came to count.';
revoke execute on function mirror.note_handed_out(uuid[]) from public;
grant execute on function mirror.note_handed_out(uuid[]) to service_role;

create or replace function mirror.read_orders(p_integration_id uuid, p_source_ids text[]) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(
        to_jsonb(o)
        || jsonb_build_object(
            'customer_source_id', c.source_id,
            'carrier', s.carrier,
            'delivery_stage', s.stage,
            'tracking_number', s.tracking_number,
            'items', coalesce((
                select jsonb_agg(to_jsonb(t) order by t.source_id)
                from public.customer_order_items as t
                where t.order_summary_id = o.id
            ), '[]'),
            'stages', coalesce(history.told, '[]'),
            'payments', coalesce((
                select jsonb_agg(
                    to_jsonb(p)
                    || jsonb_build_object(
                        'amount', p.shop_amount,
                        'status', p.shop_status,
                        'source_status', p.shop_state,
                        'failure_reason', p.shop_failure_reason,
                        'refunds', coalesce((
                            select jsonb_agg(
                                to_jsonb(f)
                                || jsonb_build_object('amount', f.shop_amount, 'status', f.shop_status, 'source_status', f.shop_state)
                                order by f.source_id
                            )
                            from public.refunds as f
                            where f.payment_id = p.id and f.shop_amount is not null
                        ), '[]')
                    )
                    order by p.source_id
                )
                from public.payments as p
                where p.order_summary_id = o.id and p.shop_amount is not null
            ), '[]'),
            'fulfillments', coalesce((
                select jsonb_agg(to_jsonb(f) order by f.source_id) from public.fulfillments as f where f.order_summary_id = o.id
            ), '[]'),
            'events', coalesce((
                select jsonb_agg(to_jsonb(e) order by e.source_id) from public.order_events as e where e.order_summary_id = o.id
            ), '[]'),
            'echoes', coalesce((
                select jsonb_agg(c.handed_out || jsonb_build_object('source_id', c.change_source_id))
                from mirror.outbox as c
                where c.order_summary_id = o.id and c.change_source_id is not null and c.handed_out = any(history.made_here)
            ), '[]')
        )
    ), '[]')
    from mirror.integrations as i
    inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
    left join public.customers as c on c.id = o.customer_id
    left join public.order_delivery_status as s on s.order_summary_id = o.id
    cross join lateral (
        select
            jsonb_agg(to_jsonb(e) || jsonb_build_object('changed_at', e.updated_at))
            filter (where not mirror.is_made_here(e, o.source)) as told,
            array_agg(jsonb_build_object('stage', e.stage, 'tracking_number', e.tracking_number))
            filter (where mirror.is_made_here(e, o.source)) as made_here
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id
    ) as history
    where i.id = p_integration_id and o.source_id = any(p_source_ids) and o.source_version > '-infinity'
$$;

comment on function mirror.read_orders(uuid, text[]) is
'The orders with these ids as the tables have them, each with its items, its delivery status, what the engine told of the '
'history (stages), of payments, fulfilments and its states (events); no bare tombstones. echoes are the '
'changes in the engine''s history that came of what admins have set here: {"source_id", "stage", "tracking_number"}. In the '
'history they are the admins'' own entries.';

create or replace function mirror.hand_out_commands(p_claim uuid, p_commands uuid[], p_records json) returns jsonb
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
