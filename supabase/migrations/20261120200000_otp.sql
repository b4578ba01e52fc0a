-- SMS codes: their limits, sessions and texts; and the proof of a phone number that they give.

alter table public.otp_sessions
alter column otp_hash drop not null,
add column code_id uuid not null default mirror.uuid_v7();

comment on column public.otp_sessions.session_id is 'SHA-256 of what whoever asked for the code holds.';
comment on column public.otp_sessions.otp_hash is 'bcrypt of the code; the code itself is nowhere. Empty until it is made.';
comment on column public.otp_sessions.attempts is
'Failed attempts, and those that are being compared: counted first, taken back where the code is right.';
comment on column public.otp_sessions.locked_until is 'No code can be entered before; the session ends then.';
comment on column public.otp_sessions.code_id is 'Sessions with the same one wait for the same code.';

create index otp_sessions_code_id on public.otp_sessions (code_id);

alter table public.customers add column phone_proved_at timestamptz;
comment on column public.customers.phone_proved_at is
'When the customer proved phone_number by a code that we sent. The number is verified from then on, whatever the engine says '
'of it, until it changes or phone_verified is taken away here.';

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

drop function mirror.list_stores();

create function mirror.list_stores() returns table (
    slug text, phone_region text, id uuid, name text, locale text, storefront_url text, code_seconds integer
)
language sql stable
set search_path = ''
as $$
    select s.slug, s.phone_region, s.id, s.name, s.locale, s.storefront_url, o.code_seconds
    from public.stores as s
    left join mirror.otp_settings as o on o.store_id = s.id
    where s.is_active
    order by s.id
$$;

comment on function mirror.list_stores() is
'The active stores, oldest first: the region their phone numbers are read in, and what texts to customers say of them.';
revoke execute on function mirror.list_stores() from public;
grant execute on function mirror.list_stores() to service_role;

create or replace function public.cleanup_expired_otps() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deleted integer;
begin
    delete from public.otp_sessions where expires_at < now();
    get diagnostics v_deleted = row_count;
    delete from mirror.otp_usage where ends_at < now();
    delete from mirror.sms_deliveries where created_at < now() - interval '400 days';
    return v_deleted;
end
$$;

comment on function public.cleanup_expired_otps() is
'Deletes the OTP sessions that have expired, and returns how many; with them what no longer counts against a limit, and what is '
'noted of texts older than 400 days. Runs by itself every ten minutes.';

create function mirror.otp_hash(p_salt text, p_text text) returns text
language sql immutable
set search_path = ''
as $$
    select encode(sha256(convert_to(p_salt || ':' || p_text, 'UTF8')), 'hex')
$$;

comment on function mirror.otp_hash(text, text) is 'A phone number or network address as the limits of SMS codes know it.';
revoke execute on function mirror.otp_hash(text, text) from public;
grant execute on function mirror.otp_hash(text, text) to service_role;

create function mirror.sms_limits(
    p_settings mirror.otp_settings, p_phone text, p_requester text, p_cost numeric
) returns table (place integer, scope text, subject text, amount numeric, cap numeric, lasts interval)
language sql immutable
set search_path = ''
as $$
    -- In the order in which they are locked: what many share comes last, and is held for the shortest time.
    select l.place, l.scope, l.subject, l.amount, l.cap, l.lasts
    from (
        values
        (1, 'requester hour', p_requester, 1, p_settings.requester_hourly, interval '1 hour'),
        (2, 'requester day', p_requester, 1, p_settings.requester_daily, interval '1 day'),
        (3, 'phone hour', p_phone, 1, p_settings.phone_hourly, interval '1 hour'),
        (4, 'phone day', p_phone, 1, p_settings.phone_daily, interval '1 day'),
        (5, 'prefix day', p_phone, 1, p_settings.prefix_daily, interval '1 day'),
        (6, 'store day', '', 1, p_settings.store_daily, interval '1 day'),
        (7, 'budget day', '', p_cost, p_settings.daily_budget, interval '1 day')
    ) as v (place, scope, whose, amount, cap, lasts)
    cross join lateral (
        select
            v.place, v.scope, v.amount, v.cap, v.lasts,
            case
                when v.scope like 'prefix%' then left(v.whose, p_settings.prefix_digits)
                when v.whose = '' then ''
                else mirror.otp_hash(p_settings.salt, v.whose)
            end as subject
    ) as l
    where v.whose is not null
$$;

comment on function mirror.sms_limits(mirror.otp_settings, text, text, numeric) is
'The limits that a text to this number counts against. Without p_requester nobody''s address is counted.';
revoke execute on function mirror.sms_limits(mirror.otp_settings, text, text, numeric) from public;
grant execute on function mirror.sms_limits(mirror.otp_settings, text, text, numeric) to service_role;

create function mirror.reserve_sms(
    p_settings mirror.otp_settings, p_phone text, p_requester text, p_cost numeric
) returns table (reason text, wait_seconds integer)
language plpgsql
set search_path = ''
as $$
declare
    v_now constant timestamptz := clock_timestamp();
begin
    select l.scope, ceil(extract(epoch from coalesce(u.ends_at - v_now, l.lasts)))
    into reason, wait_seconds
    from mirror.sms_limits(p_settings, p_phone, p_requester, p_cost) as l
    left join mirror.otp_usage as u
        on u.store_id = p_settings.store_id and u.scope = l.scope and u.subject = l.subject and u.ends_at > v_now
    where coalesce(u.used, 0) + l.amount > l.cap
    order by l.place
    limit 1;

    if reason is null then
        begin
            insert into mirror.otp_usage as u (store_id, scope, subject, used, ends_at)
            select p_settings.store_id, l.scope, l.subject, l.amount, v_now + l.lasts
            from mirror.sms_limits(p_settings, p_phone, p_requester, p_cost) as l
            order by l.place
            on conflict (store_id, scope, subject) do update set
                used = case when u.ends_at > v_now then u.used else 0 end + excluded.used,
                ends_at = case when u.ends_at > v_now then u.ends_at else excluded.ends_at end;

            -- Others may have counted since we looked. What we counted is locked: now it is certain.
            select l.scope, ceil(extract(epoch from u.ends_at - v_now))
            into reason, wait_seconds
            from mirror.sms_limits(p_settings, p_phone, p_requester, p_cost) as l
            inner join mirror.otp_usage as u
                on u.store_id = p_settings.store_id and u.scope = l.scope and u.subject = l.subject
            where u.used > l.cap
            order by l.place
            limit 1;
            if reason is not null then
                raise exception 'over the limit' using errcode = 'MR429'; -- what was counted is undone
            end if;
        exception when sqlstate 'MR429' then
            null;
        end;
    end if;
    return next;
end
$$;

comment on function mirror.reserve_sms(mirror.otp_settings, text, text, numeric) is
'Counts a text that is to be sent against every limit, or against none: then reason names the limit that is reached, and '
'wait_seconds says until when.';
revoke execute on function mirror.reserve_sms(mirror.otp_settings, text, text, numeric) from public;
grant execute on function mirror.reserve_sms(mirror.otp_settings, text, text, numeric) to service_role;

create function mirror.serves_country(p_settings mirror.otp_settings, p_country text) returns boolean
language sql stable
set search_path = ''
as $$
    select coalesce(p_country = any(coalesce(p_settings.countries, array[s.phone_region])), false)
    from public.stores as s
    where s.id = p_settings.store_id
$$;

comment on function mirror.serves_country(mirror.otp_settings, text) is
'Whether a store sends texts to numbers of this country (ISO 3166).';
revoke execute on function mirror.serves_country(mirror.otp_settings, text) from public;
grant execute on function mirror.serves_country(mirror.otp_settings, text) to service_role;

create function mirror.request_sms(
    p_store_slug text, p_phone text, p_country text, p_message_id text, p_segments integer, p_segment_price numeric
) returns table (outcome text, reason text, wait_seconds integer, delivery_id uuid)
language plpgsql
set search_path = ''
as $$
declare
    v_settings mirror.otp_settings;
begin
    outcome := 'refused';
    select o.* into v_settings
    from mirror.otp_settings as o
    inner join public.stores as s on s.id = o.store_id
    where s.slug = p_store_slug and s.is_active;
    if not found then
        reason := 'store';
        return next;
        return;
    end if;
    if not mirror.serves_country(v_settings, p_country) then
        reason := 'country';
        return next;
        return;
    end if;

    insert into mirror.sms_deliveries (store_id, purpose, message_id, phone_hash, segments, reserved)
    values (
        v_settings.store_id, 'supabase-auth', p_message_id, mirror.otp_hash(v_settings.salt, p_phone), p_segments,
        p_segments * p_segment_price
    )
    on conflict (store_id, message_id) do nothing
    returning id into delivery_id;
    if not found then
        outcome := 'duplicate';
        return next;
        return;
    end if;

    select r.reason, r.wait_seconds into reason, wait_seconds
    from mirror.reserve_sms(v_settings, p_phone, null, p_segments * p_segment_price) as r;
    if reason is null then
        outcome := 'send';
    else
        delete from mirror.sms_deliveries where id = delivery_id;
        delivery_id := null;
    end if;
    return next;
end
$$;

comment on function mirror.request_sms(text, text, text, text, integer, numeric) is
'Asks whether a text whose code somebody else made may be sent. outcome: send; duplicate, p_message_id was sent before; or '
'refused, with the reason: store, country, or the limit that is reached for wait_seconds.';
revoke execute on function mirror.request_sms(text, text, text, text, integer, numeric) from public;
grant execute on function mirror.request_sms(text, text, text, text, integer, numeric) to service_role;

create function mirror.settle_sms(p_delivery_id uuid, p_outcome text, p_driver text, p_cost numeric, p_reason text)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
    v_sms mirror.sms_deliveries;
begin
    update mirror.sms_deliveries
    set
        outcome = p_outcome::mirror.sms_outcome, driver = p_driver, cost = p_cost, reason = p_reason,
        settled_at = clock_timestamp()
    where id = p_delivery_id and outcome = 'queued'
    returning * into v_sms;
    if not found then
        return false;
    end if;
    if p_outcome = 'failed' then
        -- Nothing was sent: whoever asked may ask again at once.
        update public.otp_sessions
        set expires_at = clock_timestamp(), sent_at = null
        where id in (select s.id from public.otp_sessions as s where s.code_id = v_sms.code_id order by s.id for update);
    end if;
    update mirror.otp_usage
    set used = greatest(used - v_sms.reserved + p_cost, 0)
    where
        store_id = v_sms.store_id and scope = 'budget day' and subject = '' and p_cost <> v_sms.reserved
        -- It was reserved in this window, not in one before; the window may have begun a moment after the transaction.
        and v_sms.created_at > ends_at - interval '1 day 1 minute' and ends_at > clock_timestamp();
    return true;
end
$$;

comment on function mirror.settle_sms(uuid, text, text, numeric, text) is
'Notes what became of a text, and corrects the day''s budget by what it cost. A text that failed ends its sessions and the '
'cool-down. False: it is settled already.';
revoke execute on function mirror.settle_sms(uuid, text, text, numeric, text) from public;
grant execute on function mirror.settle_sms(uuid, text, text, numeric, text) to service_role;

create function mirror.otp_session_key(p_session_id text) returns text
language sql immutable
set search_path = ''
as $$
    select encode(sha256(convert_to(p_session_id, 'UTF8')), 'hex')
$$;

comment on function mirror.otp_session_key(text) is 'What public.otp_sessions keeps of a session''s id.';
revoke execute on function mirror.otp_session_key(text) from public;
grant execute on function mirror.otp_session_key(text) to service_role;

create function mirror.breaker_until(p_settings mirror.otp_settings, p_phone text) returns timestamptz
language sql stable
set search_path = ''
as $$
    select u.ends_at
    from mirror.otp_usage as u
    where
        u.store_id = p_settings.store_id and u.scope = 'prefix codes'
        and u.subject = left(p_phone, p_settings.prefix_digits) and u.ends_at > clock_timestamp()
        and u.used >= p_settings.breaker_after and u.entered < p_settings.breaker_share * u.used
$$;

comment on function mirror.breaker_until(mirror.otp_settings, text) is
'Until when numbers like this one get no codes, because those sent to their neighbours are hardly ever entered; null: they do.';
revoke execute on function mirror.breaker_until(mirror.otp_settings, text) from public;
grant execute on function mirror.breaker_until(mirror.otp_settings, text) to service_role;

create function mirror.request_otp(
    p_store_slug text, p_phone text, p_country text, p_purpose text, p_session_id text, p_requester text,
    p_segments integer, p_segment_price numeric
) returns table (
    outcome text, reason text, wait_seconds integer, expires_seconds integer, code_id uuid, delivery_id uuid
)
language plpgsql
set search_path = ''
as $$
declare
    v_settings mirror.otp_settings;
    v_last public.otp_sessions;
    v_now timestamptz;
    v_breaker timestamptz;
begin
    outcome := 'refused';
    select o.* into v_settings
    from mirror.otp_settings as o
    inner join public.stores as s on s.id = o.store_id
    where s.slug = p_store_slug and s.is_active;
    if not found then
        reason := 'store';
    elsif p_purpose <> all(v_settings.purposes) then
        reason := 'purpose';
    elsif not mirror.serves_country(v_settings, p_country) then
        reason := 'country';
    end if;
    if reason is not null then
        return next;
        return;
    end if;

    -- One request for a number at a time; whoever waited sees what the one before did.
    perform pg_advisory_xact_lock(hashtextextended('mirror.request_otp ' || v_settings.store_id || p_phone, 0));
    v_now := clock_timestamp();
    select s.* into v_last
    from public.otp_sessions as s
    where
        s.store_id = v_settings.store_id and s.phone = p_phone
        and s.sent_at > v_now - make_interval(secs => v_settings.cool_down_seconds)
    order by s.sent_at desc
    limit 1;
    if found then
        wait_seconds := ceil(extract(epoch from v_last.sent_at - v_now) + v_settings.cool_down_seconds);
        insert into public.otp_sessions (
            store_id, session_id, phone, purpose, otp_hash, ip_hash, sent_at, expires_at, code_id
        )
        select
            v_last.store_id, mirror.otp_session_key(p_session_id), p_phone, p_purpose, v_last.otp_hash,
            mirror.otp_hash(v_settings.salt, p_requester), v_last.sent_at, v_last.expires_at, v_last.code_id
        from public.otp_sessions as s
        where s.code_id = v_last.code_id
        having
            v_last.purpose = p_purpose and count(*) < v_settings.sessions_per_code
            and not bool_or(s.verified) and v_last.expires_at > v_now;
        if found then
            outcome := 'joined';
            code_id := v_last.code_id;
            expires_seconds := floor(extract(epoch from v_last.expires_at - v_now));
        else
            reason := 'cool-down';
        end if;
        return next;
        return;
    end if;

    v_breaker := mirror.breaker_until(v_settings, p_phone);
    if v_breaker is not null then
        reason := 'breaker';
        wait_seconds := ceil(extract(epoch from v_breaker - v_now));
        return next;
        return;
    end if;
    select r.reason, r.wait_seconds into reason, wait_seconds
    from mirror.reserve_sms(v_settings, p_phone, p_requester, p_segments * p_segment_price) as r;
    if reason is not null then
        return next;
        return;
    end if;

    insert into mirror.otp_usage as u (store_id, scope, subject, used, ends_at)
    values (
        v_settings.store_id, 'prefix codes', left(p_phone, v_settings.prefix_digits), 1, v_now + interval '1 day'
    )
    on conflict (store_id, scope, subject) do update set
        used = case when u.ends_at > v_now then u.used else 0 end + 1,
        entered = case when u.ends_at > v_now then u.entered else 0 end,
        ends_at = case when u.ends_at > v_now then u.ends_at else excluded.ends_at end;
    code_id := mirror.uuid_v7();
    insert into public.otp_sessions (store_id, session_id, phone, purpose, ip_hash, sent_at, expires_at, code_id)
    values (
        v_settings.store_id, mirror.otp_session_key(p_session_id), p_phone, p_purpose,
        mirror.otp_hash(v_settings.salt, p_requester), v_now,
        v_now + make_interval(secs => v_settings.code_seconds), code_id
    );
    insert into mirror.sms_deliveries (store_id, purpose, code_id, phone_hash, segments, reserved)
    values (
        v_settings.store_id, p_purpose, code_id, mirror.otp_hash(v_settings.salt, p_phone), p_segments,
        p_segments * p_segment_price
    )
    returning id into delivery_id;
    outcome := 'send';
    wait_seconds := v_settings.cool_down_seconds;
    expires_seconds := v_settings.code_seconds;
    return next;
end
$$;

comment on function mirror.request_otp(text, text, text, text, text, text, integer, numeric) is
'Begins a session in which the owner of a phone number proves it. outcome: send, a code is to be made (mirror.keep_otp) and '
'sent (mirror.settle_sms); joined, the code that was just sent is good for this session, too; or refused, with the reason: '
'store, purpose, country, cool-down, breaker, or the limit that is reached. wait_seconds: until another may be asked for.';
revoke execute on function mirror.request_otp(text, text, text, text, text, text, integer, numeric) from public;
grant execute on function mirror.request_otp(text, text, text, text, text, text, integer, numeric) to service_role;

create function mirror.keep_otp(p_code_id uuid, p_otp_hash text) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_sessions integer;
begin
    -- Behind whoever is about to join the code.
    perform pg_advisory_xact_lock(hashtextextended('mirror.request_otp ' || s.store_id || s.phone, 0))
    from public.otp_sessions as s
    where s.code_id = p_code_id
    limit 1;
    update public.otp_sessions set otp_hash = p_otp_hash where code_id = p_code_id and otp_hash is null;
    get diagnostics v_sessions = row_count;
    return v_sessions;
end
$$;

comment on function mirror.keep_otp(uuid, text) is
'Gives the sessions of a code its bcrypt hash, before the code is sent; returns how many there are.';
revoke execute on function mirror.keep_otp(uuid, text) from public;
grant execute on function mirror.keep_otp(uuid, text) to service_role;

create function mirror.try_otp(p_session_id text) returns table (outcome text, otp_hash text, attempts_left integer)
language plpgsql
set search_path = ''
as $$
declare
    v_session public.otp_sessions;
    v_settings mirror.otp_settings;
    v_subject text;
    v_used integer;
begin
    select s.* into v_session
    from public.otp_sessions as s
    where s.session_id = mirror.otp_session_key(p_session_id)
    for update;
    if
        not found or v_session.verified or v_session.otp_hash is null
        or v_session.expires_at <= clock_timestamp()
    then
        outcome := 'expired';
        return next;
        return;
    end if;
    select o.* into strict v_settings from mirror.otp_settings as o where o.store_id = v_session.store_id;
    v_subject := mirror.otp_hash(v_settings.salt, v_session.phone || ' ' || v_session.purpose);
    insert into mirror.otp_usage as u (store_id, scope, subject, used, ends_at)
    values (
        v_session.store_id, 'attempts', v_subject, 0, clock_timestamp() + v_settings.attempts_window
    )
    on conflict (store_id, scope, subject) do update set
        used = case when u.ends_at > clock_timestamp() then u.used else 0 end,
        ends_at = case when u.ends_at > clock_timestamp() then u.ends_at else excluded.ends_at end
    returning u.used into v_used;

    -- Counted for the number, so that no new code brings new attempts; but some are the session's own, so that nobody can
    -- use them up who does not hold it.
    attempts_left := least(
        greatest(v_settings.max_attempts - v_used, v_settings.assured_attempts - v_session.attempts),
        v_settings.max_attempts - v_session.attempts
    );
    if attempts_left <= 0 then
        outcome := 'locked';
        attempts_left := 0;
    else
        outcome := 'try';
        otp_hash := v_session.otp_hash;
        attempts_left := attempts_left - 1;
        update public.otp_sessions
        set
            attempts = attempts + 1,
            locked_until = case when attempts_left = 0 then expires_at end
        where id = v_session.id;
        update mirror.otp_usage as u
        set used = u.used + 1
        where u.store_id = v_session.store_id and u.scope = 'attempts' and u.subject = v_subject;
    end if;
    return next;
end
$$;

comment on function mirror.try_otp(text) is
'Counts an attempt at a session''s code, before it is compared. outcome: try, compare with otp_hash, and if it is right call '
'mirror.verify_otp; expired (or used, or there is no such session); or locked, there are no attempts left.';
revoke execute on function mirror.try_otp(text) from public;
grant execute on function mirror.try_otp(text) to service_role;

create function mirror.verify_otp(p_session_id text) returns table (store_id uuid, phone text, customers integer)
language plpgsql
set search_path = ''
as $$
declare
    v_now constant timestamptz := clock_timestamp();
    v_session public.otp_sessions;
    v_settings mirror.otp_settings;
    v_actor text;
begin
    select s.* into v_session
    from public.otp_sessions as s
    where s.session_id = mirror.otp_session_key(p_session_id);
    perform from public.otp_sessions as s where s.code_id = v_session.code_id order by s.id for update;
    update public.otp_sessions as s
    set verified = true, attempts = greatest(s.attempts - 1, 0), locked_until = null -- this one did not fail
    where
        s.id = v_session.id and s.expires_at > v_now
        and not exists (select from public.otp_sessions as o where o.code_id = s.code_id and o.verified)
    returning s.store_id, s.phone into store_id, phone;
    if not found then
        return;
    end if;
    -- The code is used: nobody else's session is good for it.
    update public.otp_sessions as s set expires_at = v_now where s.code_id = v_session.code_id and s.id <> v_session.id;

    select o.* into strict v_settings from mirror.otp_settings as o where o.store_id = v_session.store_id;
    delete from mirror.otp_usage as u
    where
        u.store_id = v_session.store_id and u.scope = 'attempts'
        and u.subject = mirror.otp_hash(v_settings.salt, v_session.phone || ' ' || v_session.purpose);
    update mirror.otp_usage as u
    set entered = u.entered + 1
    where
        u.store_id = v_session.store_id and u.scope = 'prefix codes' and u.ends_at > v_now
        and u.subject = left(v_session.phone, v_settings.prefix_digits);

    v_actor := mirror.act_as('otp');
    with proved as (
        select c.id
        from public.customers as c
        where
            c.store_id = v_session.store_id and c.phone_number = v_session.phone and c.deleted_at is null
            and (c.phone_proved_at is null or not c.phone_verified)
        order by c.source_id
        for no key update
    )
    update public.customers as c
    set phone_verified = true, phone_proved_at = v_now
    from proved
    where c.id = proved.id;
    get diagnostics customers = row_count;
    perform mirror.act_as(v_actor);
    return next;
end
$$;

comment on function mirror.verify_otp(text) is
'Says that the right code was entered in a session: uses the code up, and marks the phone number of the store''s customers who '
'have it as verified. Returns the number; nothing if the code was used before, or has expired.';
revoke execute on function mirror.verify_otp(text) from public;
grant execute on function mirror.verify_otp(text) to service_role;

create function mirror.keep_phone_proof() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.phone_number is distinct from old.phone_number then
        new.phone_proved_at := null; -- it was another number that was proved
        new.phone_verified := new.phone_verified and mirror.is_engine();
    elsif mirror.is_engine() then
        new.phone_verified := true; -- the engine was not told, and takes nothing back
    else
        new.phone_proved_at := null;
    end if;
    return new;
end
$$;

comment on function mirror.keep_phone_proof() is
'Trigger: a number that its customer proved by a code of ours stays verified when the engine, which knows nothing of it, says '
'otherwise. It ends when the number changes, or when an admin takes phone_verified away.';
revoke execute on function mirror.keep_phone_proof() from public;

create function mirror.give_otp_settings() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    insert into mirror.otp_settings (store_id)
    select a.id from after as a
    on conflict (store_id) do nothing;
    return null;
end
$$;

comment on function mirror.give_otp_settings() is 'Trigger: a new store has settings for its SMS codes from the start.';
revoke execute on function mirror.give_otp_settings() from public;

drop trigger note_hand_edit on public.customers;
create trigger note_hand_edit before update on public.customers
for each row
when ( -- what a customer proved is no edit by hand
    not mirror.is_engine()
    and (
        old.source, old.source_id, old.source_version, old.email, old.phone_number, old.phone_as_entered,
        old.phone_verified or new.phone_proved_at is not null,
        old.title, old.first_name, old.last_name, old.has_account, old.email_verified,
        old.marketing_consent, old.group_names, old.custom_fields, old.registered_at, old.deleted_at
    ) is distinct from (
        new.source, new.source_id, new.source_version, new.email, new.phone_number, new.phone_as_entered,
        new.phone_verified or new.phone_proved_at is not null,
        new.title, new.first_name, new.last_name, new.has_account, new.email_verified,
        new.marketing_consent, new.group_names, new.custom_fields, new.registered_at, new.deleted_at
    )
)
execute function mirror.note_hand_edit('customer');

create trigger give_otp_settings after insert on public.stores
referencing new table as after
for each statement execute function mirror.give_otp_settings();

create trigger keep_phone_proof before update on public.customers
for each row
when (
    old.phone_proved_at is not null
    and (new.phone_number is distinct from old.phone_number or not new.phone_verified)
)
execute function mirror.keep_phone_proof();

alter table mirror.otp_settings enable row level security;
alter table mirror.otp_settings force row level security;
alter table mirror.otp_usage enable row level security;
alter table mirror.otp_usage force row level security;
alter table mirror.sms_deliveries enable row level security;
alter table mirror.sms_deliveries force row level security;

grant select, insert, update, delete on
mirror.otp_settings,
mirror.otp_usage,
mirror.sms_deliveries
to service_role;

-- As pg_catalog.uuidv7() the default of a row is an operation of its insert; mirror.uuid_v7() is a call for each row.
do $$
declare
    v_table regclass;
    v_column name;
begin
    if current_setting('server_version_num')::int < 180000 then
        return;
    end if;
    for v_table, v_column in
        select d.adrelid::regclass, a.attname
        from pg_catalog.pg_attrdef as d
        inner join pg_catalog.pg_attribute as a on a.attrelid = d.adrelid and a.attnum = d.adnum
        where pg_get_expr(d.adbin, d.adrelid) = 'mirror.uuid_v7()'
    loop
        execute format('alter table %s alter column %I set default pg_catalog.uuidv7()', v_table, v_column);
    end loop;
end
$$;
