-- The outbox to Lexware Office: queue. Its rows and their states are described with public.lexoffice_sync_logs.

create function mirror.why_correct(p_invoice public.invoices, p_invoice_hash text) returns text
language sql immutable
set search_path = ''
as $$
    select case
        when p_invoice.status = 'void' then 'it was voided after it was booked: void the voucher in Lexware Office'
        when p_invoice.deleted_at is not null then 'it was booked, and is gone at the payment provider'
        when mirror.invoice_hash(p_invoice) <> p_invoice_hash then 'it has another number, date or amounts than were booked'
    end
$$;

comment on function mirror.why_correct(public.invoices, text) is
'Why the voucher of an invoice is to be corrected, by hand, in Lexware Office; null: it is right. p_invoice_hash: of what was '
'booked.';
revoke execute on function mirror.why_correct(public.invoices, text) from public;
grant execute on function mirror.why_correct(public.invoices, text) to service_role;

create function mirror.payload_hash(p_payload jsonb) returns text
language sql immutable
set search_path = ''
as $$
    select encode(sha256(convert_to(p_payload::text, 'UTF8')), 'hex')
$$;

comment on function mirror.payload_hash(jsonb) is 'SHA-256 of what is sent to Lexware Office.';
revoke execute on function mirror.payload_hash(jsonb) from public;
grant execute on function mirror.payload_hash(jsonb) to service_role;

create function mirror.queue_invoices(p_invoices uuid[]) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_known integer;
    v_new integer;
begin
    update public.lexoffice_sync_logs as l
    set
        status = case when l.status = 'sent' then 'to_correct' else l.status end,
        reason = case when l.status = 'sent' then mirror.why_correct(i, l.invoice_hash) else l.reason end,
        settled_at = case when l.status = 'sent' then now() end,
        available_at = case when l.status = 'sent' then l.available_at else now() end
    from public.invoices as i
    where
        l.invoice_id = any(p_invoices) and i.id = l.invoice_id
        and (
            l.status = 'sent' and mirror.why_correct(i, l.invoice_hash) is not null
            -- What it waited for may be here. Whoever has it in hand keeps it.
            or l.status = 'pending' and l.claimed_by is null and l.available_at > now()
        );
    get diagnostics v_known = row_count;

    insert into public.lexoffice_sync_logs (store_id, invoice_id)
    select i.store_id, i.id
    from public.invoices as i
    inner join mirror.lexoffice_settings as t on t.store_id = i.store_id
    inner join public.stores as s on s.id = i.store_id
    where
        i.id = any(p_invoices) and t.is_active and mirror.is_finished_invoice(i)
        and i.issued_at >= t.books_since::timestamp at time zone s.timezone
    order by i.issued_at, i.id
    on conflict (invoice_id) do nothing;
    get diagnostics v_new = row_count;

    if v_known + v_new > 0 then
        perform pg_notify('mirror_lexoffice', '');
    end if;
    return v_new;
end
$$;

comment on function mirror.queue_invoices(uuid[]) is
'Queues those of these invoices that are to be booked and wakes the daemon; notes which of those that are booked must be '
'corrected. '
'Returns how many are new.';
revoke execute on function mirror.queue_invoices(uuid[]) from public;
grant execute on function mirror.queue_invoices(uuid[]) to service_role;

create function mirror.queue_changed_invoices() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.queue_invoices(array(select a.id from after as a where a.status <> 'draft'));
    return null;
end
$$;

comment on function mirror.queue_changed_invoices() is 'Trigger: invoices that were finished, voided or changed.';
revoke execute on function mirror.queue_changed_invoices() from public;

create function mirror.queue_since() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.queue_invoices(array(
        select i.id
        from after as a
        inner join public.stores as s on s.id = a.store_id
        inner join public.invoices as i on i.store_id = a.store_id
        where a.is_active and i.issued_at >= a.books_since::timestamp at time zone s.timezone
    ));
    return null;
end
$$;

comment on function mirror.queue_since() is 'Trigger: invoices that mirror.lexoffice_settings has come to cover.';
revoke execute on function mirror.queue_since() from public;

create function mirror.give_lexoffice_settings() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    insert into mirror.lexoffice_settings (store_id)
    select a.id from after as a
    on conflict (store_id) do nothing;
    return null;
end
$$;

comment on function mirror.give_lexoffice_settings() is
'Trigger: a new store has settings for its books from the start; they are another''s until somebody says so.';
revoke execute on function mirror.give_lexoffice_settings() from public;

create function mirror.reconsider_invoices() returns void
language plpgsql
set search_path = ''
as $$
declare
    v_log public.lexoffice_sync_logs;
    v_invoice public.invoices;
    v_judged record;
begin
    for v_log in
        select l.*
        from public.lexoffice_sync_logs as l
        inner join public.invoices as i on i.id = l.invoice_id
        inner join mirror.lexoffice_settings as t on t.store_id = l.store_id and t.is_active
        left join public.customer_orders_summary as o on o.id = i.order_summary_id
        where
            l.status = 'refused'
            -- A change bears the time at which its transaction began: it may have been hidden when the guard looked.
            and greatest(i.updated_at, o.updated_at, t.updated_at) > l.judged_at - interval '2 minutes'
        for update of l skip locked
    loop
        select i.* into v_invoice from public.invoices as i where i.id = v_log.invoice_id;
        select j.* into v_judged from mirror.judge_invoice(v_invoice) as j;
        -- What Lexware Office has refused is sent again only if it has become something else.
        if v_judged.verdict <> 'refuse'
        and (v_log.response is null or mirror.payload_hash(v_judged.payload) is distinct from v_log.payload_hash) then
            update public.lexoffice_sync_logs as l
            set status = 'pending', reason = null, settled_at = null, available_at = now(), attempts = 0
            where l.id = v_log.id;
        elsif v_log.response is null and v_judged.reason <> v_log.reason then
            update public.lexoffice_sync_logs as l set reason = v_judged.reason, judged_at = now() where l.id = v_log.id;
        end if;
    end loop;
end
$$;

comment on function mirror.reconsider_invoices() is
'Has the guard look again at what was refused, where the invoice, its order or mirror.lexoffice_settings have changed since.';
revoke execute on function mirror.reconsider_invoices() from public;
grant execute on function mirror.reconsider_invoices() to service_role;
