create function mirror.default_store_id() returns uuid
language sql stable
set search_path = ''
as $$
    select id from public.stores where is_active order by id limit 1
$$;

comment on function mirror.default_store_id() is 'The oldest active store: a shop that has one store never has to name it.';
revoke execute on function mirror.default_store_id() from public;
grant execute on function mirror.default_store_id() to service_role;
