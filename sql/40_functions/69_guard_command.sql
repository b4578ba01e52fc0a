create function mirror.guard_command() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_code constant text := (select o.order_code from public.customer_orders_summary as o where o.id = old.order_summary_id);
begin
    if tg_op = 'DELETE' and v_code is null then
        return old; -- it goes with its order
    elsif tg_op = 'DELETE' then
        raise exception 'What the shop is to be told of order % cannot be deleted.', v_code
        using
            errcode = 'restrict_violation',
            hint = 'Change its stage or tracking number: only the latest counts, and what the shop has already it is not told.';
    end if;
    raise exception 'What became of a command is kept by the mirror and cannot be edited.'
    using
        errcode = 'check_violation',
        hint = format('To have the shop told again: select resend_order_deliveries(%L);', v_code);
end
$$;

comment on function mirror.guard_command() is
'Trigger: what an admin has set is told to the shop, or the order needs attention; no command is lost in between.';
revoke execute on function mirror.guard_command() from public;
