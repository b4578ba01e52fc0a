-- What an engine read at a time that is still to come is not taken; and a backfill of days ago is begun anew.

create function mirror.read_clock() returns timestamptz
language sql volatile
set search_path = ''
as $$
    select clock_timestamp()
$$;

comment on function mirror.read_clock() is
'What time it is: for whoever doubts their own clock. What an engine read more than five minutes after that is not taken.';
revoke execute on function mirror.read_clock() from public;
grant execute on function mirror.read_clock() to service_role;

create or replace function mirror.begin_run(
    p_integration_id uuid,
    p_kind text,
    p_options json,
    p_claim uuid,
    p_lease_seconds double precision,
    p_restart boolean default false
) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_options jsonb := p_options;
    v_present mirror.sync_runs;
    v_run_id uuid;
begin
    perform from mirror.integrations as i where i.id = p_integration_id for no key update;
    select * into v_present from mirror.sync_runs as r where r.integration_id = p_integration_id and r.state = 'running';
    if v_present.claimed_until > now() then
        return json_build_object('busy', v_present.kind, 'seconds', extract(epoch from v_present.claimed_until - now())::float8);
    end if;
    update mirror.sync_runs as r
    set state = 'incomplete', reason = 'the process that had it in hand died', finished_at = now(), claimed_by = null
    where r.id = v_present.id;

    -- The backfill that was not finished goes on where it was; but not after so long that its receipts, of slices that nobody
    -- would read again, prove nothing of today. Begun anew, it fetches only what differs.
    select r.id into v_run_id
    from (
        select l.id, l.state, l.options, l.created_at
        from mirror.sync_runs as l
        where l.integration_id = p_integration_id and l.kind = 'backfill'
        order by l.id desc
        limit 1
    ) as r
    where p_kind = 'backfill' and not p_restart and r.state = 'incomplete' and r.options = v_options
        and r.created_at > now() - interval '1 day';
    if v_run_id is not null then
        update mirror.sync_runs as r
        set
            state = 'running', reason = null, finished_at = null, claimed_by = p_claim,
            claimed_until = now() + make_interval(secs => p_lease_seconds)
        where r.id = v_run_id;
    else
        insert into mirror.sync_runs (integration_id, kind, options, claimed_by, claimed_until)
        values (p_integration_id, p_kind, v_options, p_claim, now() + make_interval(secs => p_lease_seconds))
        returning id into v_run_id;
        insert into mirror.sync_cursors (run_id, entity)
        select v_run_id, jsonb_array_elements_text(v_options -> 'entities');
    end if;
    return json_build_object(
        'run_id', v_run_id,
        'cursors', (
            select json_agg(mirror.read_cursor(c.run_id, c.entity))
            from mirror.sync_cursors as c
            where c.run_id = v_run_id
        )
    );
end
$$;

comment on function mirror.begin_run(uuid, text, json, uuid, double precision, boolean) is
'Begins a run, or goes on with the backfill of the same options that was begun within a day and not finished: {"run_id", '
'"cursors"}. While another run of the integration is in hand, it only says so: {"busy": its kind, "seconds": until its claim lapses}.';
