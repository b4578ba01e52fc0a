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
