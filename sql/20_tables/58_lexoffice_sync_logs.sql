-- The outbox to Lexware Office (lexoffice): what is to be booked there, and what became of it. A row per invoice, for ever:
-- Lexware Office knows no idempotency keys, so "once" is kept here, and by the invoice's number there.
--
--     queue ──▶ pending ──claim──▶ pending, leased ──settle──▶ sent ──void or changed later──▶ to_correct
--                ▲  │                    │    └─────────────▶ refused
--                │  └──▶ skipped         └── lease lapses, or 'retry' ──▶ pending
--                └── an admin sets the status, or what was refused changes
--
-- requested_at is set before Lexware Office is asked to create a voucher, and emptied when it is certain what became of it. While
-- it is set nobody decides anything before looking for the voucher, and nobody looks before two minutes have passed.

create type public.lexoffice_sync_status as enum ('pending', 'sent', 'skipped', 'refused', 'to_correct');
comment on type public.lexoffice_sync_status is
'pending: to be booked, now or at available_at. sent: Lexware Office has it. skipped: there is nothing to book. refused: by a '
'guard here, or by Lexware Office. to_correct: it was booked, and has been voided or changed since. Of all but sent, reason '
'says why.';

create table public.lexoffice_sync_logs (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    invoice_id uuid not null unique references public.invoices (id),
    entity_type text not null default 'voucher' check (entity_type in ('voucher')),
    status public.lexoffice_sync_status not null default 'pending',
    reason text,
    voucher_number text,
    voucher_id text,
    payload_hash text,
    invoice_hash text,
    response jsonb,
    attempts integer not null default 0 check (attempts >= 0),
    retry_count integer generated always as (case when attempts > 1 then attempts - 1 else 0 end) stored,
    available_at timestamptz not null default now(),
    claimed_by uuid,
    requested_at timestamptz,
    judged_at timestamptz,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint lexoffice_sync_logs_pending_is_not_settled check ((status = 'pending') = (settled_at is null)),
    constraint lexoffice_sync_logs_settled_is_not_claimed check (status = 'pending' or claimed_by is null),
    constraint lexoffice_sync_logs_refusal_has_reason check (status in ('pending', 'sent') or reason is not null),
    constraint lexoffice_sync_logs_booked_has_voucher check (status not in ('sent', 'to_correct') or voucher_id is not null)
) with (fillfactor = 85);

comment on table public.lexoffice_sync_logs is
'What became of each invoice in Lexware Office. Edit status to try again (pending), to leave out (skipped), or to say that you '
'have corrected a voucher there (sent).';
comment on column public.lexoffice_sync_logs.entity_type is 'What it becomes there: a bookkeeping voucher.';
comment on column public.lexoffice_sync_logs.reason is
'Why it waits, was refused or skipped, or is to be corrected. Of what was sent: who says so, where it was not the mirror.';
comment on column public.lexoffice_sync_logs.voucher_number is 'The invoice''s number, by which the voucher is found there.';
comment on column public.lexoffice_sync_logs.voucher_id is 'The voucher''s id in Lexware Office.';
comment on column public.lexoffice_sync_logs.payload_hash is 'SHA-256 of what was sent, or was to be sent last.';
comment on column public.lexoffice_sync_logs.invoice_hash is 'SHA-256 of the invoice''s number, date and amounts at that time.';
comment on column public.lexoffice_sync_logs.response is
'What Lexware Office answered last: {"status", "body"}. Empty where a guard here has refused it.';
comment on column public.lexoffice_sync_logs.attempts is
'How often it was taken in hand since it was queued, or since an admin set it to pending.';
comment on column public.lexoffice_sync_logs.claimed_by is 'Token of the claim that holds the lease.';
comment on column public.lexoffice_sync_logs.requested_at is
'When Lexware Office was asked to create the voucher, until it is known what became of that.';
comment on column public.lexoffice_sync_logs.judged_at is 'When a guard last looked at it.';

create index lexoffice_sync_logs_pending on public.lexoffice_sync_logs (available_at, id) where status = 'pending';
create index lexoffice_sync_logs_open on public.lexoffice_sync_logs (store_id, status) where status in ('refused', 'to_correct');
create index lexoffice_sync_logs_voucher_number on public.lexoffice_sync_logs (voucher_number);
create index lexoffice_sync_logs_store_id on public.lexoffice_sync_logs (store_id, status);

create trigger touch_updated_at before update on public.lexoffice_sync_logs
for each row execute function mirror.touch_updated_at();
