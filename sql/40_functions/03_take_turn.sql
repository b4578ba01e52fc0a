-- Who changes orders, deliveries or batches takes a turn before the first row is locked. Studio changes any of these tables
-- first, and the others follow: a delivery's order, an order's delivery, a batch's orders. No order of row locks suits them all.
-- So daemons, who lock rows in one order, take turns together, and everyone else has a turn alone: nobody waits in a circle.

create function mirror.take_turn(p_together boolean default mirror.is_engine()) returns void
language plpgsql
set search_path = ''
as $$
begin
    if p_together then
        perform pg_advisory_xact_lock_shared(hashtextextended('commerce-mirror: turn', 0));
    else
        perform pg_advisory_xact_lock(hashtextextended('commerce-mirror: turn', 0));
    end if;
end
$$;

comment on function mirror.take_turn(boolean) is
'Waits until orders, deliveries and batches may be changed, to the end of the transaction: daemons together, everyone else '
'alone. Whoever locks one of their rows, or a customer''s with them, calls it first.';
revoke execute on function mirror.take_turn(boolean) from public;
grant execute on function mirror.take_turn(boolean) to service_role;

create function mirror.take_turn_first() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.take_turn();
    return null;
end
$$;

comment on function mirror.take_turn_first() is 'Trigger, before a statement locks its first row: see mirror.take_turn.';
revoke execute on function mirror.take_turn_first() from public;

create function mirror.lock_batches() returns void
language plpgsql
set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('commerce-mirror: batches', 0));
end
$$;

comment on function mirror.lock_batches() is
'Lets one daemon at a time put orders into batches or take them out, to the end of the transaction: two that count several '
'batches in different orders would wait in a circle.';
revoke execute on function mirror.lock_batches() from public;
grant execute on function mirror.lock_batches() to service_role;
