-- A command that the shop took counts as sent when the shop was read again, and not when it cannot be asked.

create or replace function mirror.settle_commands(p_claim uuid, p_records json, p_settlements json) returns jsonb
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
