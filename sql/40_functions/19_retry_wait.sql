create function mirror.retry_wait(p_work mirror.retried_work, p_attempts integer) returns interval
language sql stable
set search_path = ''
as $$
    select s.wait
    from mirror.retry_schedule as s
    where s.work = p_work and s.attempt <= greatest(p_attempts, 1)
    order by s.attempt desc
    limit 1
$$;

comment on function mirror.retry_wait(mirror.retried_work, integer) is
'How long to wait before the next attempt, after so many; null: give up. From mirror.retry_schedule.';
revoke execute on function mirror.retry_wait(mirror.retried_work, integer) from public;
grant execute on function mirror.retry_wait(mirror.retried_work, integer) to service_role;

create function mirror.guard_retry_schedule() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_row mirror.retry_schedule;
    v_work mirror.retried_work;
begin
    select s.* into v_row
    from mirror.retry_schedule as s
    where s.attempt < 1 or s.wait < '0' or s.wait > '1 day' or (s.work = 'event' and s.wait is null)
    limit 1;
    if v_row.attempt < 1 then
        raise exception 'Attempts are counted from 1, not from %.', v_row.attempt
        using errcode = 'check_violation', hint = 'The row of attempt 1 says how long to wait after the first failure.';
    elsif v_row.wait is not null then
        raise exception 'A wait of % before the next attempt is not possible.', v_row.wait
        using errcode = 'check_violation', hint = 'Choose one between 0 seconds and 1 day.';
    elsif v_row.id is not null then
        raise exception 'Events are never given up: attempt % needs a wait.', v_row.attempt
        using errcode = 'check_violation', hint = 'Only commands may have an empty wait, which makes them dead.';
    end if;

    select w.work into v_work
    from unnest(enum_range(null::mirror.retried_work)) as w (work)
    where not exists (select from mirror.retry_schedule as s where s.work = w.work and s.attempt = 1 and s.wait is not null)
    limit 1;
    if found then
        raise exception 'The schedule for each % begins with attempt 1 and its wait.', v_work
        using errcode = 'check_violation', hint = 'Keep the row of attempt 1, and change its wait.';
    end if;

    select later.* into v_row
    from mirror.retry_schedule as later
    inner join mirror.retry_schedule as last on last.work = later.work and last.wait is null and last.attempt < later.attempt
    limit 1;
    if found then
        raise exception 'A command is dead before attempt %: the row of an earlier attempt has no wait.', v_row.attempt
        using errcode = 'check_violation', hint = 'Remove that row first, or give it a wait.';
    end if;
    return null;
end
$$;

comment on function mirror.guard_retry_schedule() is 'Trigger: the rules of a retry schedule, in words that an admin reads.';
revoke execute on function mirror.guard_retry_schedule() from public;
