create function mirror.touch_updated_at() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    new.updated_at := now();
    return new;
end
$$;

comment on function mirror.touch_updated_at() is 'Trigger: keeps updated_at.';
revoke execute on function mirror.touch_updated_at() from public;
