-- Settings that an admin edits in Studio, and that all else stands on.

create function mirror.guard_store() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from pg_timezone_names as z where z.name = new.timezone) then
        raise exception 'There is no time zone %.', coalesce(nullif(new.timezone, ''), '(empty)')
        using errcode = 'check_violation', hint = 'Write it like Asia/Colombo. They are all in pg_timezone_names.';
    end if;
    return new;
end
$$;

comment on function mirror.guard_store() is
'Trigger: a store''s time zone is one. Batch numbers, tracking and the books ask for the day there, and would fail without.';
revoke execute on function mirror.guard_store() from public;

create function mirror.guard_integration() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception 'Integration % stays with its store and its engine.', old.slug
    using
        errcode = 'check_violation',
        hint = 'What it has brought is theirs. Add one for the other, and set is_active of this one to false.';
end
$$;

comment on function mirror.guard_integration() is
'Trigger: with another store or engine all customers and orders would come anew, beside those that are there.';
revoke execute on function mirror.guard_integration() from public;
