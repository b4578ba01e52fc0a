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
