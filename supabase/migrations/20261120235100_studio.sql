-- What Studio's table editor can do is either done with all that follows, or refused with a sentence.

create function mirror.refuse_emptying() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception 'The rows of % are not removed all at once.', tg_table_name
    using
        errcode = 'restrict_violation',
        hint = 'Choose those that are to go by a filter, and delete them: what follows is done then, or refused.';
end
$$;

comment on function mirror.refuse_emptying() is
'Trigger: keeps a table from being emptied, as Studio does with all rows chosen. No row''s own trigger would notice.';
revoke execute on function mirror.refuse_emptying() from public;

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

-- What people do with one event in Studio: its state's cell.

create function mirror.guard_event() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_skipped constant text := format('skipped by %s', mirror.current_actor());
begin
    if tg_op = 'DELETE' then
        raise exception 'Event % is % and cannot be deleted.', old.event_id, old.state
        using
            errcode = 'restrict_violation',
            hint = 'If it is not to be applied, set its state to skipped: it is removed in time.';
    elsif old.claimed_by is not null and old.available_at > now() then
        raise exception 'Event % is being applied.', old.event_id
        using errcode = 'object_in_use', hint = 'Look again in a minute.';
    elsif new.state = 'pending' then
        new.available_at := now();
        new.claimed_by := null;
        new.attempts := 0;
        new.reason := null;
        new.settled_at := null;
        perform pg_notify('mirror_inbox', '');
    elsif new.state = 'skipped' and old.state in ('pending', 'dead') then
        new.claimed_by := null;
        new.reason := coalesce(new.reason || ' (' || v_skipped || ')', v_skipped);
        new.settled_at := now();
    else
        raise exception 'Event % is % and cannot become %.', old.event_id, old.state, new.state
        using errcode = 'check_violation', hint = 'pending has it applied again; skipped leaves out what is not applied yet.';
    end if;
    return new;
end
$$;

comment on function mirror.guard_event() is
'Trigger: what an admin may say of an event. pending and skipped do what mirror.retry_events and mirror.skip_events do.';
revoke execute on function mirror.guard_event() from public;

create function mirror.guard_store() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from pg_timezone_names as z where z.name = new.timezone) then
        raise exception 'There is no time zone %.', coalesce(nullif(new.timezone, ''), '(empty)')
        using errcode = 'check_violation', hint = 'Write it like Asia/Colombo. They are all in pg_timezone_names.';
    end if;
    return new;
end
$$;

comment on function mirror.guard_store() is
'Trigger: a store''s time zone is one. Batch numbers, tracking and the books ask for the day there, and would fail without.';
revoke execute on function mirror.guard_store() from public;

create function mirror.guard_integration() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception 'Integration % stays with its store and its engine.', old.slug
    using
        errcode = 'check_violation',
        hint = 'What it has brought is theirs. Add one for the other, and set is_active of this one to false.';
end
$$;

comment on function mirror.guard_integration() is
'Trigger: with another store or engine all customers and orders would come anew, beside those that are there.';
revoke execute on function mirror.guard_integration() from public;

create trigger guard before update on mirror.webhook_events
for each row -- nothing but a cell's edit changes the state and leaves the time
when (new.state is distinct from old.state and new.settled_at is not distinct from old.settled_at)
execute function mirror.guard_event();
create trigger guard_end before delete on mirror.webhook_events
for each row
when (old.state in ('pending', 'dead'))
execute function mirror.guard_event();

create trigger guard before update on mirror.outbox
for each row
when (new.state is distinct from old.state and new.settled_at is not distinct from old.settled_at)
execute function mirror.guard_command();
create trigger guard_end before delete on mirror.outbox
for each row
when (old.state in ('pending', 'dead'))
execute function mirror.guard_command();

create trigger guard_insert before insert on public.stores
for each row execute function mirror.guard_store();
create trigger guard before update on public.stores
for each row
when (new.timezone is distinct from old.timezone)
execute function mirror.guard_store();

create trigger guard before update on mirror.integrations
for each row
when ((new.store_id, new.engine) is distinct from (old.store_id, old.engine))
execute function mirror.guard_integration();

create trigger keep_rows before truncate on public.stores
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customers
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customer_addresses
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customer_orders_summary
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.customer_order_items
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.import_batches
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.order_batch_assignments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.supplier_purchase_lists
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.order_delivery_status
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.order_events
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.payments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.refunds
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.fulfillments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.subscription_plans
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.subscriptions
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.invoices
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on public.lexoffice_sync_logs
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.integrations
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.webhook_events
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.seen_events
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.outbox
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_conflicts
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.provider_payments
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.provider_refunds
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_runs
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_receipts
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.sync_cursors
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.hand_edits
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.batch_numbers
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.delivery_stage_counts
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.delivery_durations
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.schedule
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.otp_settings
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.lexoffice_settings
for each statement execute function mirror.refuse_emptying();
create trigger keep_rows before truncate on mirror.lexoffice_pace
for each statement execute function mirror.refuse_emptying();

-- Whoever reads the refusal reads what is expected.
alter table public.stores rename constraint stores_accent_color_check to accent_color_is_like_2457d6;
alter table public.stores rename constraint stores_carrier_links_check to carrier_links_are_https_addresses_with_number;
alter table public.stores rename constraint stores_allowed_origins_check to allowed_origins_are_like_https_shop_example;
alter table public.stores rename constraint stores_phone_region_check to phone_region_is_like_lk;
