create function public.cleanup_expired_otps() returns integer
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
revoke execute on function public.cleanup_expired_otps() from public;
grant execute on function public.cleanup_expired_otps() to service_role;

create function mirror.run_again() returns void
language sql
set search_path = ''
as $$
    select set_config('mirror.job_runs_again', 'yes', true)
$$;

comment on function mirror.run_again() is
'For a job of mirror.schedule that has more to do: it is due again as soon as this run is committed.';
revoke execute on function mirror.run_again() from public;
grant execute on function mirror.run_again() to service_role;

create function mirror.run_schedule() returns table (job text, error text)
language plpgsql
set search_path = ''
as $$
declare
    v_job mirror.schedule;
    v_error text;
begin
    -- A job that another instance has in hand is locked: it is done there. One that was done meanwhile is no longer due.
    for v_job in
        select * from mirror.schedule as s
        where s.last_run_at is null or s.last_run_at + s.every <= now()
        order by s.job
        for update skip locked
    loop
        v_error := null;
        perform set_config('mirror.job_runs_again', '', true);
        begin
            execute v_job.command;
        exception when others then
            v_error := sqlerrm;
        end;
        update mirror.schedule as s
        set
            last_run_at = case when current_setting('mirror.job_runs_again') = 'yes' then s.last_run_at else now() end,
            last_error = v_error
        where s.id = v_job.id;
        return query select v_job.job, v_error;
    end loop;
end
$$;

comment on function mirror.run_schedule() is
'Does the scheduled work that is due, each job once whoever calls, and returns which, with the error of what failed: that is '
'also in mirror.schedule.last_error. A failed job undoes only itself, and is tried again when it is due next.';
revoke execute on function mirror.run_schedule() from public;
grant execute on function mirror.run_schedule() to service_role;
