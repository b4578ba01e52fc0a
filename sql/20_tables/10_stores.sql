create table public.stores (
    id uuid primary key default mirror.uuid_v7(),
    slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text not null check (name <> ''),
    currency public.currency_code not null,
    phone_region text not null constraint phone_region_is_like_lk check (phone_region ~ '^[A-Z]{2}$'),
    timezone text not null,
    locale text not null,
    storefront_url text,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    batches_all_orders boolean not null default false,
    batch_target_order_count integer check (batch_target_order_count > 0),
    requires_tracking_number boolean not null default false,
    pay_on_delivery_methods text[] not null default '{cash-on-delivery,cod,COD}',
    accent_color text not null default '#2457d6' constraint accent_color_is_like_2457d6 check (accent_color ~* '^#[0-9a-f]{6}$'),
    carrier_links jsonb not null default '{}' constraint carrier_links_are_https_addresses_with_number check (
        jsonb_typeof(carrier_links) = 'object'
        and not jsonb_path_exists(
            carrier_links, 'strict $.* ? (@.type() != "string" || !(@ like_regex "^https://[^ <>\"]*\\{number\\}[^ <>\"]*$"))'
        )
    ),
    allowed_origins text[] not null default '{}' constraint allowed_origins_are_like_https_shop_example check (
        array_to_string(allowed_origins, ' ', '') ~ '^(https?://[a-z0-9.-]+(:[0-9]+)?( https?://[a-z0-9.-]+(:[0-9]+)?)*)?$'
    )
);

comment on table public.stores is 'The shops that are mirrored. One default store exists from the start.';
comment on column public.stores.slug is 'Short name for addresses and settings: lower case, digits, hyphens.';
comment on column public.stores.phone_region is
'ISO 3166 country (LK) in which a phone number without country code is read.';
comment on column public.stores.timezone is 'IANA name (Asia/Colombo): where the shop''s day begins.';
comment on column public.stores.locale is 'BCP 47 tag (en, si, ta) of texts to customers.';

comment on column public.stores.batches_all_orders is
'Every order joins the open import batch; otherwise only an order with a pre-order item does.';
comment on column public.stores.batch_target_order_count is
'Orders that a new import batch waits for before it is ready to be ordered; empty: no target.';
comment on column public.stores.requires_tracking_number is
'An order cannot be DISPATCHED without a tracking number.';
comment on column public.stores.pay_on_delivery_methods is
'Payment methods that are paid at the door: such an order needs no attention for being unpaid before it is DELIVERED.';
comment on column public.stores.accent_color is
'The shop''s colour on pages for customers: #rrggbb.';
comment on column public.stores.carrier_links is
'Where a parcel is followed: per carrier, as orders name it, an https address with {number} in place of the tracking number.';
comment on column public.stores.allowed_origins is
'Web sites whose pages may call the API from a browser, as browsers name them: https://shop.example, without a path.';

create trigger touch_updated_at before update on public.stores
for each row execute function mirror.touch_updated_at();

insert into public.stores (slug, name, currency, phone_region, timezone, locale)
values ('default', 'My shop', 'LKR', 'LK', 'Asia/Colombo', 'en');
