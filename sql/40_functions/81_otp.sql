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
