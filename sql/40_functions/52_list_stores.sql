create function mirror.list_stores() returns table (
    slug text, phone_region text, id uuid, name text, locale text, storefront_url text, code_seconds integer,
    currency text, timezone text, accent_color text, carrier_links jsonb, allowed_origins text[]
)
language sql stable
set search_path = ''
as $$
    select
        s.slug, s.phone_region, s.id, s.name, s.locale, s.storefront_url, o.code_seconds,
        s.currency, s.timezone, s.accent_color, s.carrier_links, s.allowed_origins
    from public.stores as s
    left join mirror.otp_settings as o on o.store_id = s.id
    where s.is_active
    order by s.id
$$;

comment on function mirror.list_stores() is
'The active stores, oldest first: the region their phone numbers are read in, and what texts to customers say of them.';
revoke execute on function mirror.list_stores() from public;
grant execute on function mirror.list_stores() to service_role;
