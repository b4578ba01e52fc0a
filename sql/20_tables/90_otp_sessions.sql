create table public.otp_sessions (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null default mirror.default_store_id() references public.stores (id),
    session_id text not null unique check (session_id <> ''),
    phone public.phone_digits not null,
    purpose text not null,
    otp_hash text check (otp_hash ~ '^\$2[aby]\$'),
    verified boolean not null default false,
    attempts integer not null default 0 check (attempts >= 0),
    ip_hash text,
    sent_at timestamptz,
    locked_until timestamptz,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    code_id uuid not null default mirror.uuid_v7()
);

comment on table public.otp_sessions is 'Phone numbers being proved by an SMS code. Only the service sees them.';
comment on column public.otp_sessions.session_id is 'SHA-256 of what whoever asked for the code holds.';
comment on column public.otp_sessions.otp_hash is 'bcrypt of the code; the code itself is nowhere. Empty until it is made.';
comment on column public.otp_sessions.attempts is
'Failed attempts, and those that are being compared: counted first, taken back where the code is right.';
comment on column public.otp_sessions.locked_until is 'No code can be entered before; the session ends then.';
comment on column public.otp_sessions.code_id is 'Sessions with the same one wait for the same code.';

create index otp_sessions_phone on public.otp_sessions (store_id, phone);
create index otp_sessions_code_id on public.otp_sessions (code_id);
create index otp_sessions_expires_at on public.otp_sessions (expires_at);

create trigger touch_updated_at before update on public.otp_sessions
for each row execute function mirror.touch_updated_at();
