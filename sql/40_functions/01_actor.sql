create function mirror.current_actor() returns text
language plpgsql stable
set search_path = ''
as $$
declare
    v_claims jsonb := nullif(current_setting('request.jwt.claims', true), '');
begin
    return coalesce(
        nullif(current_setting('mirror.actor', true), ''),
        case
            when session_user = 'authenticator'
                then 'api:' || coalesce(v_claims ->> 'sub', v_claims ->> 'role', current_user)
            when current_setting('application_name') like 'supabase/dashboard%' then 'studio'
            when current_setting('application_name') like 'commerce-mirror%' then 'service'
            else session_user
        end
    );
end
$$;

comment on function mirror.current_actor() is
'Who is changing rows now: engine:vendure, studio, service (the API, the daemon), api:<user>, or a database role. For the '
'record, not for security: all but session_user can be set by whoever is connected.';
revoke execute on function mirror.current_actor() from public;
grant execute on function mirror.current_actor() to service_role;

create function mirror.is_engine() returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
    return coalesce(current_setting('mirror.actor', true), '') like 'engine:%';
end
$$;

comment on function mirror.is_engine() is 'Whether the present change comes from the commerce engine.';
revoke execute on function mirror.is_engine() from public;
grant execute on function mirror.is_engine() to service_role;

create function mirror.act_as(p_actor text) returns text
language plpgsql
set search_path = ''
as $$
declare
    v_before text := coalesce(current_setting('mirror.actor', true), '');
begin
    perform set_config('mirror.actor', p_actor, true);
    return v_before;
end
$$;

comment on function mirror.act_as(text) is 'Sets the actor for the rest of the transaction; returns who it was before.';
revoke execute on function mirror.act_as(text) from public;
grant execute on function mirror.act_as(text) to service_role;
