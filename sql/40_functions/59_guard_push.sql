create function mirror.guard_push() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_number constant text := coalesce(old.voucher_number, old.invoice_id::text);
    v_kept constant text[] := '{status,updated_at,retry_count}'; -- the last is not computed yet
begin
    if tg_op = 'DELETE' then
        raise exception 'What became of invoice % in Lexware Office cannot be deleted.', v_number
        using errcode = 'restrict_violation', hint = 'Set status to skipped to leave it out.';
    elsif to_jsonb(new) - v_kept is distinct from to_jsonb(old) - v_kept then
        raise exception 'Of lexoffice_sync_logs only status can be edited.'
        using errcode = 'check_violation', hint = 'The rest is kept by the mirror.';
    elsif new.status = old.status then
        return new;
    elsif old.claimed_by is not null or old.status = 'pending' and old.requested_at is not null then
        raise exception 'Invoice % is being pushed to Lexware Office.', v_number
        using errcode = 'object_in_use', hint = 'Look again in a few minutes.';
    elsif new.status = 'pending' then
        new.reason := null;
        new.attempts := 0;
        new.available_at := now();
        new.settled_at := null;
        new.voucher_id := null;
        perform pg_notify('mirror_lexoffice', '');
    elsif new.status = 'skipped' and old.status in ('pending', 'refused') then
        new.reason := 'left out by ' || mirror.current_actor();
        new.settled_at := now();
    elsif new.status = 'sent' and old.status = 'to_correct' then
        new.reason := 'corrected, says ' || mirror.current_actor();
        new.settled_at := now();
        -- It is as it should be now: what changes from here on is to be corrected anew.
        select mirror.invoice_hash(i) into new.invoice_hash from public.invoices as i where i.id = new.invoice_id;
    else
        raise exception 'Invoice % is % in Lexware Office and cannot become %.', v_number, old.status, new.status
        using errcode = 'check_violation',
        hint = 'pending has it tried again; skipped leaves out what was refused; sent says that you have corrected it there.';
    end if;
    return new;
end
$$;

comment on function mirror.guard_push() is 'Trigger: what an admin may say of an invoice''s place in the books.';
revoke execute on function mirror.guard_push() from public;

create function public.push_invoices(number text default null) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_queued integer;
begin
    update public.lexoffice_sync_logs as l
    set status = 'pending'
    where l.status = 'refused' and (push_invoices.number is null or l.voucher_number = push_invoices.number);
    get diagnostics v_queued = row_count;
    return v_queued;
end
$$;

comment on function public.push_invoices(text) is
'Has what was refused pushed to Lexware Office once more, one invoice by its number, or all; returns how many. For after the '
'cause is '
'mended.';
revoke execute on function public.push_invoices(text) from public;
grant execute on function public.push_invoices(text) to service_role;
