-- What the edge knows of a store: its colour, its couriers' pages, and the sites that may call the API.

alter table public.stores
    add column accent_color text not null default '#2457d6' check (accent_color ~* '^#[0-9a-f]{6}$'),
    add column carrier_links jsonb not null default '{}' check (
        jsonb_typeof(carrier_links) = 'object'
        and not jsonb_path_exists(
            carrier_links, 'strict $.* ? (@.type() != "string" || !(@ like_regex "^https://[^ <>\"]*\\{number\\}[^ <>\"]*$"))'
        )
    ),
    add column allowed_origins text[] not null default '{}' check (
        array_to_string(allowed_origins, ' ', '') ~ '^(https?://[a-z0-9.-]+(:[0-9]+)?( https?://[a-z0-9.-]+(:[0-9]+)?)*)?$'
    );

comment on column public.stores.accent_color is
'The shop''s colour on pages for customers: #rrggbb.';
comment on column public.stores.carrier_links is
'Where a parcel is followed: per carrier, as orders name it, an https address with {number} in place of the tracking number.';
comment on column public.stores.allowed_origins is
'Web sites whose pages may call the API from a browser, as browsers name them: https://shop.example, without a path.';

drop function mirror.list_stores();

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
