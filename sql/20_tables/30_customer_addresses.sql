create table public.customer_addresses (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null,
    customer_id uuid not null,
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    vendure_address_id text generated always as (case when source = 'vendure' then source_id end) stored,
    address_type public.address_type not null,
    is_default boolean not null,
    full_name text,
    company text,
    street_line_1 text,
    street_line_2 text,
    city text,
    province text,
    postal_code text,
    country_code text,
    country_name text,
    phone_number public.phone_digits,
    phone_as_entered text,
    custom_fields jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, source, source_id),
    foreign key (customer_id, store_id) references public.customers (id, store_id) on delete cascade
);

comment on table public.customer_addresses is
'The address book of each customer. An address that is gone from the engine is gone from here.';
comment on column public.customer_addresses.address_type is
'shipping or billing where it is the default for just that; both otherwise.';
comment on column public.customer_addresses.is_default is 'The customer''s default for its address_type.';

create index customer_addresses_customer_id on public.customer_addresses (customer_id, store_id);

create trigger touch_updated_at before update on public.customer_addresses
for each row execute function mirror.touch_updated_at();
