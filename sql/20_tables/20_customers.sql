create table public.customers (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    vendure_customer_id text generated always as (case when source = 'vendure' then source_id end) stored,
    email public.email_address,
    phone_number public.phone_digits,
    phone_as_entered text,
    phone_verified boolean not null default false,
    title text,
    first_name text,
    last_name text,
    has_account boolean not null default false,
    email_verified boolean not null default false,
    marketing_consent boolean not null default false,
    group_names text[] not null default '{}',
    custom_fields jsonb not null default '{}',
    registered_at timestamptz,
    auth_user_id uuid references auth.users (id) on delete set null,
    is_active boolean not null default false,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    total_orders integer not null default 0,
    total_spent public.money_amount not null default 0,
    spent_by_currency jsonb not null default '{}',
    last_order_date timestamptz,
    source_hash text,
    phone_proved_at timestamptz,
    unique (store_id, source, source_id),
    unique (id, store_id), -- for its addresses, which name both
    constraint customers_deleted_is_inactive check (deleted_at is null or not is_active)
) with (fillfactor = 85);

comment on table public.customers is 'The shop''s customers, guests too, as the commerce engine has them.';
comment on column public.customers.source_version is
'When, by the engine''s clock, this state was read. -infinity: known only because an order or a deletion names it.';
comment on column public.customers.source_hash is
'Digest of the engine''s document that the row was made from; empty where that is not known, or the row was changed since.';
comment on column public.customers.phone_number is
'Digits with country code, no plus. Empty when what was entered is no phone number.';
comment on column public.customers.phone_as_entered is 'The phone number as it stands in the engine.';
comment on column public.customers.phone_proved_at is
'When the customer proved phone_number by a code that we sent. The number is verified from then on, whatever the engine says '
'of it, until it changes or phone_verified is taken away here.';
comment on column public.customers.has_account is 'False for a guest.';
comment on column public.customers.registered_at is 'When the engine first knew the customer.';
comment on column public.customers.auth_user_id is 'The Supabase user who may read this customer''s data.';
comment on column public.customers.is_active is
'Kept by the mirror: not deleted, and the newest registration of its e-mail address in the store.';
comment on column public.customers.total_orders is 'Placed orders that are neither cancelled nor deleted. Kept by the mirror.';
comment on column public.customers.total_spent is
'What those orders come to less refunds, in the store''s currency. Kept by the mirror.';
comment on column public.customers.spent_by_currency is 'The same for every currency: {"LKR": 1500.00, "JPY": 3000}.';
comment on column public.customers.last_order_date is 'When the latest of those orders was placed.';
comment on column public.customers.deleted_at is 'When, by the engine''s clock, the customer was found deleted.';

create unique index customers_active_email on public.customers (store_id, email) where is_active;
create index customers_email on public.customers (store_id, email);
create index customers_phone_number on public.customers (store_id, phone_number);
create index customers_vendure_customer_id on public.customers (store_id, vendure_customer_id);
create index customers_auth_user_id on public.customers (auth_user_id);
create index customers_stripe_customer_id on public.customers (store_id, (custom_fields ->> 'stripeCustomerId'))
where custom_fields ? 'stripeCustomerId';

create trigger touch_updated_at before update on public.customers
for each row execute function mirror.touch_updated_at();
