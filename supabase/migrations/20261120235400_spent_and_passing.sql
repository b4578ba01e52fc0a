-- An event that is applied while the database is migrated waits for that, alone or among others. And what customers have spent is
-- in their store's currency where that was changed before the mirror followed it.

create or replace function mirror.apply_apart(p_claim uuid, p_pieces json, p_passing text[]) returns table (
    piece integer,
    customers integer,
    orders integer,
    state text,
    message text,
    violated text
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    v_piece json;
    v_counts json;
    v_ends_at constant timestamptz := clock_timestamp() + interval '20 seconds';
begin
    -- A piece that waits for somebody's row is refused, too, so that the others need not wait with it.
    perform set_config('lock_timeout', '2s', true);
    for piece, v_piece in
        select p.position - 1, p.value from json_array_elements(p_pieces) with ordinality as p (value, position)
    loop
        customers := null;
        orders := null;
        state := null;
        message := null;
        violated := null;
        begin
            if clock_timestamp() > v_ends_at then
                raise exception 'not tried: the events before it took too long' using errcode = 'lock_not_available';
            end if;
            v_counts := mirror.apply_events(p_claim, v_piece -> 'records', v_piece -> 'settlements');
            set constraints all immediate; -- what is left for the end of the transaction would undo every piece
            set constraints all deferred;
            customers := v_counts -> 'customers';
            orders := v_counts -> 'orders';
        exception when others then
            get stacked diagnostics state = returned_sqlstate, message = message_text, violated = constraint_name;
            if json_array_length(v_piece #> '{settlements,id}') = 1
            and not array[left(state, 2), state, violated] && p_passing then
                perform mirror.settle_events(
                    p_claim,
                    json_build_object(
                        'id', v_piece #> '{settlements,id}',
                        'outcome', json_build_array('dead'),
                        'reason', json_build_array(format('%s (SQLSTATE %s)', message, state)),
                        'retry_after', json_build_array(null)
                    )
                );
            end if;
        end;
        return next;
    end loop;
end
$$;

comment on function mirror.apply_apart(uuid, json, text[]) is
'Applies pieces of a slice that was refused as a whole, each by itself; returns a row for each, with how many customers and '
'orders changed, or why it was refused. p_pieces: a list of {"records", "settlements"} as apply_events takes them. A single '
'event that is refused is settled as dead, unless its SQLSTATE, the class of that, or the constraint that it violates is among '
'p_passing: that passes by itself.';

select mirror.take_turn();

update public.customers as c
set total_spent = s.spent
from (
    select k.id, coalesce((k.spent_by_currency ->> st.currency)::numeric, 0) as spent
    from public.customers as k
    inner join public.stores as st on st.id = k.store_id
) as s
where c.id = s.id and c.total_spent is distinct from s.spent;
