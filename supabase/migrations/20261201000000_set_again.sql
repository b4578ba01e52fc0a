-- What the shop was told, has changed since, and an admin has set again is told to it again.

create or replace function mirror.end_commands(p_commands uuid[], p_state mirror.command_state, p_reason text default null) returns void
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
