create table public.otp_sessions (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null default mirror.default_store_id() references public.stores (id),
    session_id text not null unique check (session_id <> ''),
    phone public.phone_digits not null,
    purpose text not null,
    otp_hash text not null check (otp_hash ~ '^\$2[aby]\$'),
    verified boolean not null default false,
    attempts integer not null default 0 check (attempts >= 0),
    ip_hash text,
    sent_at timestamptz,
    locked_until timestamptz,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.otp_sessions is 'Phone numbers being proved by an SMS code. Only the service sees them.';
comment on column public.otp_sessions.otp_hash is 'bcrypt of the code; the code itself is nowhere.';

create index otp_sessions_phone on public.otp_sessions (store_id, phone);
create index otp_sessions_expires_at on public.otp_sessions (expires_at);

create trigger touch_updated_at before update on public.otp_sessions
for each row execute function mirror.touch_updated_at();
