create function mirror.list_stores() returns table (slug text, phone_region text)
language sql stable
set search_path = ''
as $$
    select s.slug, s.phone_region
    from public.stores as s
    where s.is_active
    order by s.id
$$;

comment on function mirror.list_stores() is 'The active stores, oldest first, with the region their phone numbers are read in.';
revoke execute on function mirror.list_stores() from public;
grant execute on function mirror.list_stores() to service_role;
