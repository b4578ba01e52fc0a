create type mirror.sms_outcome as enum ('queued', 'sent', 'unknown', 'failed');
comment on type mirror.sms_outcome is
'queued: in hand. sent: a provider has taken it. unknown: a provider did not answer, and may have sent it. failed: not sent.';

create table mirror.otp_settings (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null unique references public.stores (id) on delete cascade,
    purposes text[] not null default '{login}' check (cardinality(purposes) > 0),
    countries text[],
    code_seconds integer not null default 300 check (code_seconds between 60 and 600),
    cool_down_seconds integer not null default 60,
    max_attempts integer not null default 5 check (max_attempts between 1 and 10),
    assured_attempts integer not null default 2,
    attempts_window interval not null default '1 hour' check (attempts_window between '5 minutes' and '1 day'),
    sessions_per_code integer not null default 2 check (sessions_per_code between 1 and 5),
    phone_hourly integer not null default 5 check (phone_hourly >= 0),
    phone_daily integer not null default 10 check (phone_daily >= 0),
    requester_hourly integer not null default 20 check (requester_hourly >= 0),
    requester_daily integer not null default 100 check (requester_daily >= 0),
    prefix_digits integer not null default 7 check (prefix_digits between 2 and 12),
    prefix_daily integer not null default 100 check (prefix_daily >= 0),
    store_daily integer not null default 2000 check (store_daily >= 0),
    daily_budget public.money_amount not null default 5000 check (daily_budget >= 0),
    breaker_after integer not null default 30 check (breaker_after > 0),
    breaker_share numeric not null default 0.1 check (breaker_share between 0 and 1),
    salt text not null
    default encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex') check (salt <> ''),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint otp_settings_cool_down_ends_before_the_code check (cool_down_seconds between 1 and code_seconds),
    constraint otp_settings_assures_no_more_than_there_is check (assured_attempts between 1 and max_attempts)
);

comment on table mirror.otp_settings is
'How much a store lets be asked of SMS codes. A row per store; what is changed here holds from the next request on.';
comment on column mirror.otp_settings.purposes is 'What a code may be asked for. Attempts are counted for each by itself.';
comment on column mirror.otp_settings.countries is
'ISO 3166 countries whose numbers get codes: {LK,IN}; empty: the store''s own, stores.phone_region.';
comment on column mirror.otp_settings.code_seconds is 'How long a code holds.';
comment on column mirror.otp_settings.cool_down_seconds is 'How long after a code no other is sent to the same number.';
comment on column mirror.otp_settings.max_attempts is
'Codes that may be entered for a number and purpose within attempts_window, whatever is sent meanwhile.';
comment on column mirror.otp_settings.assured_attempts is
'Codes that each session may enter even if others have used up max_attempts: so nobody can lock out the number''s owner.';
comment on column mirror.otp_settings.sessions_per_code is
'How many may wait for one code: whoever asks again within the cool-down joins the code that was sent.';
comment on column mirror.otp_settings.phone_hourly is 'Texts to one number in an hour, at the most.';
comment on column mirror.otp_settings.phone_daily is 'Texts to one number in a day, at the most.';
comment on column mirror.otp_settings.requester_hourly is 'Codes asked for from one network address in an hour, at the most.';
comment on column mirror.otp_settings.requester_daily is 'Codes asked for from one network address in a day, at the most.';
comment on column mirror.otp_settings.prefix_digits is 'How many leading digits make numbers neighbours; 9477123: ten thousand.';
comment on column mirror.otp_settings.prefix_daily is 'Texts to numbers with the same leading digits in a day, at the most.';
comment on column mirror.otp_settings.store_daily is 'Texts in a day, at the most.';
comment on column mirror.otp_settings.daily_budget is
'What texts may cost in a day, in the store''s currency. 0: none is sent.';
comment on column mirror.otp_settings.breaker_after is
'After so many codes to numbers with the same leading digits it matters how many are entered.';
comment on column mirror.otp_settings.breaker_share is
'If less than this share of them is entered (0.1: a tenth), such numbers get no more codes that day.';
comment on column mirror.otp_settings.salt is
'Goes into every hash of a phone number or network address. Changing it makes the mirror forget whom it has counted.';

create trigger touch_updated_at before update on mirror.otp_settings
for each row execute function mirror.touch_updated_at();

insert into mirror.otp_settings (store_id)
select id from public.stores;

create table mirror.otp_usage (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id) on delete cascade,
    scope text not null,
    subject text not null,
    used numeric not null,
    entered integer not null default 0,
    ends_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, scope, subject)
) with (fillfactor = 80);

comment on table mirror.otp_usage is 'How much of each limit of mirror.otp_settings is used up, and until when that counts.';
comment on column mirror.otp_usage.scope is 'Which limit: ''phone hour'', ''budget day'', ''attempts'', …';
comment on column mirror.otp_usage.subject is
'Whose: the hash of a number or a network address, or leading digits; empty: the store''s.';
comment on column mirror.otp_usage.entered is 'Of scope ''prefix codes'': how many of the codes were entered.';
comment on column mirror.otp_usage.ends_at is 'From then on it begins anew.';

create index otp_usage_ends_at on mirror.otp_usage (ends_at);

create trigger touch_updated_at before update on mirror.otp_usage
for each row execute function mirror.touch_updated_at();

create table mirror.sms_deliveries (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id) on delete cascade,
    purpose text not null,
    code_id uuid,
    message_id text,
    phone_hash text not null,
    segments integer not null check (segments > 0),
    reserved public.money_amount not null check (reserved >= 0),
    outcome mirror.sms_outcome not null default 'queued',
    driver text,
    cost public.money_amount check (cost >= 0),
    reason text,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sms_deliveries_settled_are_complete
    check ((outcome = 'queued') = (settled_at is null) and (outcome = 'queued') = (cost is null))
);

comment on table mirror.sms_deliveries is
'Every text that was to be sent: by whom, what became of it, what it cost. Without its words, and without the number.';
comment on column mirror.sms_deliveries.code_id is 'The code of public.otp_sessions that it brought.';
comment on column mirror.sms_deliveries.message_id is 'Of a text for Supabase Auth: the hook''s webhook-id.';
comment on column mirror.sms_deliveries.phone_hash is 'Salted (mirror.otp_settings.salt), so that it tells nothing elsewhere.';
comment on column mirror.sms_deliveries.reserved is 'What was set aside for it from the day''s budget.';
comment on column mirror.sms_deliveries.driver is 'The provider that took it, or was tried last.';
comment on column mirror.sms_deliveries.cost is 'What it cost, by the prices in the environment; in the store''s currency.';
comment on column mirror.sms_deliveries.reason is 'What the providers said that did not take it.';

create index sms_deliveries_store_id on mirror.sms_deliveries (store_id, created_at);
create unique index sms_deliveries_message_id on mirror.sms_deliveries (store_id, message_id);

create trigger touch_updated_at before update on mirror.sms_deliveries
for each row execute function mirror.touch_updated_at();
