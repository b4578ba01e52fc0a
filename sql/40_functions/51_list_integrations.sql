create function mirror.list_integrations() returns table (
    id uuid,
    store_id uuid,
    slug text,
    engine text,
    secrets_variable text,
    money_precision smallint,
    phone_region text,
    is_test boolean
)
language sql stable
set search_path = ''
as $$
    select i.id, i.store_id, i.slug, i.engine::text, i.secrets_variable, i.money_precision, s.phone_region, i.is_test
    from mirror.integrations as i
    inner join public.stores as s on s.id = i.store_id
    where i.is_active and s.is_active
$$;

comment on function mirror.list_integrations() is 'The engines that are connected, with what reading their payloads needs.';
revoke execute on function mirror.list_integrations() from public;
grant execute on function mirror.list_integrations() to service_role;
