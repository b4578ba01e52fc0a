-- The schema `mirror` holds the machinery: inbox, integrations and the functions that Python calls.
-- The Data API never exposes it; what admins and customers see is in `public`.

create schema mirror;

comment on schema mirror is
'commerce-mirror''s machinery: the inbox of change hooks and the functions that apply them. Not exposed to the Data API.';

revoke all on schema mirror from public;
grant usage on schema mirror to service_role;
-- Primary keys are UUIDv7 (RFC 9562): ordered by time, so inserts stay at the right edge of the index.
-- Postgres 18 makes them itself; older versions get the same layout:
-- milliseconds, then version 7 and the fraction of the millisecond in 12 bits, then random ones.

do $create$
begin
    if current_setting('server_version_num')::int >= 180000 then
        create function mirror.uuid_v7() returns uuid
        language sql volatile parallel safe
        set search_path = ''
        as 'select pg_catalog.uuidv7()';
    else
        create function mirror.uuid_v7() returns uuid
        language sql volatile parallel safe
        set search_path = ''
        as $body$
            select encode(
                overlay(
                    overlay(
                        uuid_send(gen_random_uuid())
                        placing substring(int8send(t.microseconds / 1000) from 3) from 1 for 6
                    )
                    placing substring(int4send((28672 + t.microseconds % 1000 * 4096 / 1000)::integer) from 3)
                    from 7 for 2
                ),
                'hex'
            )::uuid
            from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint as microseconds) as t
        $body$;
    end if;
end
$create$;

comment on function mirror.uuid_v7() is 'A new UUIDv7 (RFC 9562): the default of every primary key.';
revoke execute on function mirror.uuid_v7() from public;
grant execute on function mirror.uuid_v7() to service_role;
-- Types that tables share. Enums give Studio its dropdowns; domains hold a rule in one place.

create type public.commerce_engine as enum ('vendure', 'shopify', 'woocommerce', 'stripe');
comment on type public.commerce_engine is 'The system that a mirrored row was read from.';

create type public.delivery_stage as enum (
    'ORDER_CONFIRMED', 'SOURCING', 'ARRIVED', 'DISPATCHED', 'DELIVERED'
);
comment on type public.delivery_stage is 'The five stages of a delivery, in the order in which they happen.';

create type public.address_type as enum ('shipping', 'billing', 'both');
comment on type public.address_type is 'What a customer uses an address for.';

create type mirror.event_state as enum ('pending', 'applied', 'skipped', 'dead');
comment on type mirror.event_state is
'pending: to be applied, now or at available_at. applied: in the tables. skipped: nothing for us in it. '
'dead: cannot be applied; reason says why.';

create domain public.money_amount as numeric
constraint money_amount_is_finite check (value > '-Infinity' and value < 'Infinity')
constraint money_amount_has_at_most_4_decimals check (value = round(value, 4));
comment on domain public.money_amount is 'An exact amount in major units (1.50 is one rupee fifty), at most 4 decimals.';

create domain public.currency_code as text
constraint currency_code_is_iso_4217 check (value ~ '^[A-Z]{3}$');
comment on domain public.currency_code is 'An ISO 4217 code: LKR, JPY, KWD.';

create domain public.phone_digits as text
constraint phone_digits_is_e164_without_plus check (value ~ '^[1-9][0-9]{5,14}$');
comment on domain public.phone_digits is 'A phone number as digits with country code and no plus: 94771234567.';

create domain public.email_address as text
constraint email_address_is_lower_case check (value = lower(value));
comment on domain public.email_address is 'An e-mail address in lower case.';
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
create table public.stores (
    id uuid primary key default mirror.uuid_v7(),
    slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name text not null check (name <> ''),
    currency public.currency_code not null,
    phone_region text not null check (phone_region ~ '^[A-Z]{2}$'),
    timezone text not null,
    locale text not null,
    storefront_url text,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.stores is 'The shops that are mirrored. One default store exists from the start.';
comment on column public.stores.slug is 'Short name for addresses and settings: lower case, digits, hyphens.';
comment on column public.stores.phone_region is
'ISO 3166 country (LK) in which a phone number without country code is read.';
comment on column public.stores.timezone is 'IANA name (Asia/Colombo): where the shop''s day begins.';
comment on column public.stores.locale is 'BCP 47 tag (en, si, ta) of texts to customers.';

create trigger touch_updated_at before update on public.stores
for each row execute function mirror.touch_updated_at();

insert into public.stores (slug, name, currency, phone_region, timezone, locale)
values ('default', 'My shop', 'LKR', 'LK', 'Asia/Colombo', 'en');
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
    unique (store_id, source, source_id),
    constraint customers_deleted_is_inactive check (deleted_at is null or not is_active)
) with (fillfactor = 85);

comment on table public.customers is 'The shop''s customers, guests too, as the commerce engine has them.';
comment on column public.customers.source_version is
'When, by the engine''s clock, this state was read. -infinity: known only because an order or a deletion names it.';
comment on column public.customers.phone_number is
'Digits with country code, no plus. Empty when what was entered is no phone number.';
comment on column public.customers.phone_as_entered is 'The phone number as it stands in the engine.';
comment on column public.customers.has_account is 'False for a guest.';
comment on column public.customers.registered_at is 'When the engine first knew the customer.';
comment on column public.customers.auth_user_id is 'The Supabase user who may read this customer''s data.';
comment on column public.customers.is_active is
'Kept by the mirror: not deleted, and the newest registration of its e-mail address in the store.';
comment on column public.customers.deleted_at is 'When, by the engine''s clock, the customer was found deleted.';

create unique index customers_active_email on public.customers (store_id, email) where is_active;
create index customers_email on public.customers (store_id, email);
create index customers_phone_number on public.customers (store_id, phone_number);
create index customers_vendure_customer_id on public.customers (store_id, vendure_customer_id);
create index customers_auth_user_id on public.customers (auth_user_id);

create trigger touch_updated_at before update on public.customers
for each row execute function mirror.touch_updated_at();
create table public.customer_addresses (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    customer_id uuid not null references public.customers (id) on delete cascade,
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
    unique (store_id, source, source_id)
);

comment on table public.customer_addresses is
'The address book of each customer. An address that is gone from the engine is gone from here.';
comment on column public.customer_addresses.address_type is
'shipping or billing where it is the default for just that; both otherwise.';
comment on column public.customer_addresses.is_default is 'The customer''s default for its address_type.';

create index customer_addresses_customer_id on public.customer_addresses (customer_id);

create trigger touch_updated_at before update on public.customer_addresses
for each row execute function mirror.touch_updated_at();
create table public.customer_orders_summary (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    customer_id uuid references public.customers (id),
    source public.commerce_engine not null,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    vendure_order_id text generated always as (case when source = 'vendure' then source_id end) stored,
    order_code text,
    order_state text,
    order_date timestamptz,
    delivery_stage public.delivery_stage not null default 'ORDER_CONFIRMED',
    tracking_number text,
    payment_method text,
    currency public.currency_code,
    sub_total public.money_amount,
    shipping public.money_amount,
    tax public.money_amount,
    discount public.money_amount,
    total public.money_amount,
    total_with_tax public.money_amount,
    total_paid public.money_amount,
    total_refunded public.money_amount,
    coupon_codes text[] not null default '{}',
    shipping_method text,
    shipping_address jsonb,
    billing_address jsonb,
    contact_name text,
    contact_phone public.phone_digits,
    contact_email public.email_address,
    custom_fields jsonb not null default '{}',
    cancelled_at timestamptz,
    deleted_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, source, source_id),
    constraint customer_orders_summary_is_placed check (
        source_version = '-infinity'
        or num_nulls(
            order_code, order_state, order_date, currency, sub_total, shipping, tax, discount, total,
            total_with_tax, total_paid, total_refunded
        ) = 0
    )
) with (fillfactor = 85);

comment on table public.customer_orders_summary is
'Every placed order, one row each, as the commerce engine has it. Carts and drafts are not here.';
comment on column public.customer_orders_summary.source_version is
'When, by the engine''s clock, this state was read. -infinity: known only because a deletion names it.';
comment on column public.customer_orders_summary.order_state is 'The engine''s own state: PaymentSettled, Shipped, …';
comment on column public.customer_orders_summary.order_date is 'When the order was placed.';
comment on column public.customer_orders_summary.delivery_stage is 'Always equal to order_delivery_status.stage.';
comment on column public.customer_orders_summary.sub_total is 'Of all lines after discounts, without tax and shipping.';
comment on column public.customer_orders_summary.shipping is 'Without tax.';
comment on column public.customer_orders_summary.tax is 'On lines and shipping: total_with_tax less total.';
comment on column public.customer_orders_summary.discount is 'What was taken off, with tax; not below zero.';
comment on column public.customer_orders_summary.total_paid is 'Payments that are settled.';
comment on column public.customer_orders_summary.total_refunded is 'Refunds that are settled.';
comment on column public.customer_orders_summary.contact_phone is
'The phone of the delivery (or billing) address: with it the customer may follow the order.';
comment on column public.customer_orders_summary.contact_email is
'The order''s own, or else the customer''s present one.';
comment on column public.customer_orders_summary.cancelled_at is
'Set while the engine calls the order cancelled: the engine''s last change of it.';
comment on column public.customer_orders_summary.deleted_at is
'When, by the engine''s clock, the order was found deleted.';

create unique index customer_orders_summary_order_code on public.customer_orders_summary (store_id, order_code)
where deleted_at is null;
create index customer_orders_summary_customer_id on public.customer_orders_summary (customer_id);
create index customer_orders_summary_order_date on public.customer_orders_summary (store_id, order_date);
create index customer_orders_summary_delivery_stage on public.customer_orders_summary (store_id, delivery_stage);

create trigger touch_updated_at before update on public.customer_orders_summary
for each row execute function mirror.touch_updated_at();
create table public.customer_order_items (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid not null references public.customer_orders_summary (id) on delete cascade,
    source_id text not null check (source_id <> ''),
    source_version timestamptz not null,
    sku text,
    product_name text not null,
    variant_name text not null,
    quantity integer not null check (quantity >= 0),
    currency public.currency_code not null,
    unit_price_with_tax public.money_amount not null,
    line_total_with_tax public.money_amount not null,
    patch_enabled boolean not null default false,
    patch_type text,
    print_name text,
    print_number text,
    is_pre_order boolean not null default false,
    custom_fields jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (order_summary_id, source_id)
) with (fillfactor = 85);

comment on table public.customer_order_items is
'The lines of each order. A line that is gone from the order is gone from here; a cancelled line has quantity 0.';
comment on column public.customer_order_items.source_id is 'The engine''s id of the order line.';
comment on column public.customer_order_items.line_total_with_tax is 'After all discounts, those of the whole order shared out.';

create index customer_order_items_store_id on public.customer_order_items (store_id, sku);

create trigger touch_updated_at before update on public.customer_order_items
for each row execute function mirror.touch_updated_at();
create table public.order_delivery_status (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid not null unique references public.customer_orders_summary (id) on delete cascade,
    order_code text not null,
    stage public.delivery_stage not null default 'ORDER_CONFIRMED',
    tracking_number text,
    carrier text,
    updated_by text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
) with (fillfactor = 85);

comment on table public.order_delivery_status is 'Where each order is now: one of five stages.';
comment on column public.order_delivery_status.tracking_number is
'The courier''s number; customers see it from DISPATCHED on.';
comment on column public.order_delivery_status.updated_by is 'Who set it last: the engine''s name, or a person''s.';

create index order_delivery_status_order_code on public.order_delivery_status (store_id, order_code);
create index order_delivery_status_stage on public.order_delivery_status (store_id, stage);

create trigger touch_updated_at before update on public.order_delivery_status
for each row execute function mirror.touch_updated_at();
create table public.order_delivery_status_events (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    order_summary_id uuid not null references public.customer_orders_summary (id) on delete cascade,
    order_code text not null,
    from_stage public.delivery_stage,
    stage public.delivery_stage not null,
    tracking_number text,
    updated_by text not null,
    source_id text not null,
    updated_at timestamptz not null,
    created_at timestamptz not null default now(),
    unique (order_summary_id, source_id)
);

comment on table public.order_delivery_status_events is 'Every change of a delivery''s stage or tracking number.';
comment on column public.order_delivery_status_events.from_stage is 'Empty for the first event of an order.';
comment on column public.order_delivery_status_events.updated_at is 'When the stage changed, by the clock of whoever changed it.';
comment on column public.order_delivery_status_events.source_id is
'The engine''s id of the change; "placed" for the placing; "read <time>" where the engine keeps no history.';

create index order_delivery_status_events_updated_at
on public.order_delivery_status_events (store_id, updated_at);
create index order_delivery_status_events_timeline
on public.order_delivery_status_events (order_summary_id, updated_at);
create table mirror.integrations (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    engine public.commerce_engine not null,
    secrets_variable text not null check (secrets_variable ~ '^[A-Z][A-Z0-9_]*$'),
    money_precision smallint check (money_precision between 0 and 4),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.integrations is 'A commerce engine connected to a store. Its hooks arrive at /hooks/<slug>.';
comment on column mirror.integrations.secrets_variable is
'Name of the environment variable that holds the hook secrets (comma-separated while one is rotated). '
'The secrets themselves are not in the database.';
comment on column mirror.integrations.money_precision is
'Decimals in the engine''s integer amounts; empty: as many as the currency has (JPY 0, LKR 2, KWD 3).';

create index integrations_store_id on mirror.integrations (store_id);

create trigger touch_updated_at before update on mirror.integrations
for each row execute function mirror.touch_updated_at();

insert into mirror.integrations (store_id, slug, engine, secrets_variable)
select id, 'vendure', 'vendure', 'VENDURE_HOOK_SECRETS'
from public.stores
where slug = 'default';
-- The inbox. A row is written once, when a verified hook arrives, and settled once.
--
--     accept ──▶ pending ──claim──▶ pending, leased ──settle──▶ applied | skipped | dead
--                   ▲                     │
--                   └── lease lapses ─────┤
--                   └── settle 'retry' ───┘
--
-- A lease is nothing but `available_at` in the future and the token in `claimed_by`: it lapses by itself.

create table mirror.webhook_events (
    id uuid primary key default mirror.uuid_v7(),
    integration_id uuid not null references mirror.integrations (id),
    event_id text not null check (event_id <> ''),
    event_type text not null check (event_type <> ''),
    entity_id text,
    payload json not null,
    state mirror.event_state not null default 'pending',
    available_at timestamptz not null default now(),
    claimed_by uuid,
    attempts integer not null default 0 check (attempts >= 0),
    reason text,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (integration_id, event_id),
    constraint webhook_events_pending_is_not_settled check ((state = 'pending') = (settled_at is null)),
    constraint webhook_events_settled_is_not_claimed check (state = 'pending' or claimed_by is null),
    constraint webhook_events_refusal_has_reason check (state in ('pending', 'applied') or reason is not null)
) with (fillfactor = 85);

comment on table mirror.webhook_events is 'The inbox: every verified change hook, as it came, and what became of it.';
comment on column mirror.webhook_events.event_id is 'The sender''s id of the event: the same for each delivery of it.';
comment on column mirror.webhook_events.entity_id is 'The engine''s id of what the event is about.';
comment on column mirror.webhook_events.available_at is 'Not to be claimed before: a lease or a wait before a retry.';
comment on column mirror.webhook_events.claimed_by is 'Token of the claim that holds the lease.';
comment on column mirror.webhook_events.reason is 'Why it was skipped, is dead, or is tried again.';

create index webhook_events_pending on mirror.webhook_events (available_at, id) where state = 'pending';
create index webhook_events_dead on mirror.webhook_events (settled_at) where state = 'dead';

create trigger touch_updated_at before update on mirror.webhook_events
for each row execute function mirror.touch_updated_at();
create type mirror.event_columns as (
    integration_id uuid [],
    event_id text [],
    event_type text [],
    entity_id text [],
    payload json []
);

create function mirror.accept_events(p_events json) returns boolean[]
language plpgsql
set search_path = ''
as $$
declare
    v_events mirror.event_columns := json_populate_record(null::mirror.event_columns, p_events);
    v_accepted boolean[];
begin
    with arriving as (
        select *
        from unnest(
            v_events.integration_id, v_events.event_id, v_events.event_type, v_events.entity_id, v_events.payload
        ) with ordinality as t (integration_id, event_id, event_type, entity_id, payload, position)
    ), inserted as (
        insert into mirror.webhook_events (integration_id, event_id, event_type, entity_id, payload)
        select integration_id, event_id, event_type, entity_id, payload
        from (
            select distinct on (integration_id, event_id) *
            from arriving
            order by integration_id, event_id, position
        ) as firsts
        order by integration_id, event_id
        on conflict (integration_id, event_id) do nothing
        returning integration_id, event_id
    ), firsts as (
        select integration_id, event_id, min(position) as position
        from arriving
        group by integration_id, event_id
    )
    select array_agg(inserted.event_id is not null order by arriving.position)
    into v_accepted
    from arriving
    left join firsts using (integration_id, event_id, position)
    left join inserted
        on inserted.integration_id = firsts.integration_id and inserted.event_id = firsts.event_id;

    if true = any(v_accepted) then
        perform pg_notify('mirror_inbox', '');
    end if;
    return coalesce(v_accepted, '{}');
end
$$;

comment on function mirror.accept_events(json) is
'Stores verified events and wakes the daemon. Takes one JSON object with an array per column of '
'mirror.event_columns; returns, in the same order, whether each event is new (false: known already).';
revoke execute on function mirror.accept_events(json) from public;
grant execute on function mirror.accept_events(json) to service_role;
create function mirror.claim_events(p_claim uuid, p_limit integer, p_lease interval)
returns table (
    id uuid,
    integration_id uuid,
    event_type text,
    payload json,
    attempts integer
)
language sql
set search_path = ''
as $$
    -- Materialized: a plan that ran this twice would lock, and lease, more than p_limit.
    with due as materialized (
        select w.id
        from mirror.webhook_events as w
        where w.state = 'pending' and w.available_at <= now()
        order by w.available_at, w.id
        limit p_limit
        for update skip locked
    )
    update mirror.webhook_events as e
    set
        claimed_by = p_claim,
        available_at = now() + p_lease,
        attempts = e.attempts + 1
    from due
    where e.id = due.id
    returning e.id, e.integration_id, e.event_type, e.payload, e.attempts
$$;

comment on function mirror.claim_events(uuid, integer, interval) is
'Leases up to p_limit pending events to the claim p_claim (a fresh UUID) for p_lease. What is not settled by then may be '
'claimed by anyone.';
revoke execute on function mirror.claim_events(uuid, integer, interval) from public;
grant execute on function mirror.claim_events(uuid, integer, interval) to service_role;
create type mirror.settlement_columns as (
    id uuid [],
    outcome text [],
    reason text [],
    retry_after double precision []
);

create function mirror.settle_events(p_claim uuid, p_settlements json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_settlements mirror.settlement_columns
        := json_populate_record(null::mirror.settlement_columns, p_settlements);
    v_settled integer;
begin
    update mirror.webhook_events as e
    set
        state = (case s.outcome when 'retry' then 'pending' else s.outcome end)::mirror.event_state,
        reason = s.reason,
        claimed_by = null,
        available_at = case
            when s.outcome = 'retry' then now() + make_interval(secs => s.retry_after) else e.available_at
        end,
        settled_at = case when s.outcome <> 'retry' then now() end
    from unnest(v_settlements.id, v_settlements.outcome, v_settlements.reason, v_settlements.retry_after)
        as s (id, outcome, reason, retry_after)
    where e.id = s.id and e.claimed_by = p_claim and e.state = 'pending';
    get diagnostics v_settled = row_count;

    if v_settled <> cardinality(v_settlements.id) then
        raise exception 'claim % holds only % of the % events that it settles', p_claim, v_settled,
            cardinality(v_settlements.id)
        using
            errcode = 'lock_not_available',
            hint = 'The lease lapsed and another worker took them over: roll back, and leave them to it.';
    end if;
    return v_settled;
end
$$;

comment on function mirror.settle_events(uuid, json) is
'Ends the lease of events: outcome applied, skipped or dead (the last two with a reason), or retry after so many seconds. '
'Fails, so that the caller''s transaction rolls back, if the claim no longer holds every one of them.';
revoke execute on function mirror.settle_events(uuid, json) from public;
grant execute on function mirror.settle_events(uuid, json) to service_role;
create function mirror.text_array(p_list text) returns text[]
language sql immutable parallel safe
set search_path = ''
as $$
    select case when p_list is null then '{}' else array(select json_array_elements_text(p_list::json)) end
$$;

comment on function mirror.text_array(text) is
'The strings of a JSON array that came as text (an array of arrays would have to be rectangular); empty for null.';
revoke execute on function mirror.text_array(text) from public;
grant execute on function mirror.text_array(text) to service_role;
create type mirror.address_columns as (
    customer_source_id text [],
    source_id text [],
    address_type public.address_type [],
    is_default boolean [],
    full_name text [],
    company text [],
    street_line_1 text [],
    street_line_2 text [],
    city text [],
    province text [],
    postal_code text [],
    country_code text [],
    country_name text [],
    phone_number text [],
    phone_as_entered text [],
    custom_fields jsonb []
);

create function mirror.replace_addresses(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_customers uuid[],
    p_addresses mirror.address_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.customer_addresses as a (
        store_id, customer_id, source, source_id, source_version, address_type, is_default, full_name, company,
        street_line_1, street_line_2, city, province, postal_code, country_code, country_name, phone_number,
        phone_as_entered, custom_fields
    )
    select distinct on (r.source_id)
        p_store_id, c.id, p_source, r.source_id, c.source_version, r.address_type, r.is_default, r.full_name,
        r.company, r.street_line_1, r.street_line_2, r.city, r.province, r.postal_code, r.country_code,
        r.country_name, r.phone_number, r.phone_as_entered, coalesce(r.custom_fields, '{}')
    from unnest(
        p_addresses.customer_source_id, p_addresses.source_id, p_addresses.address_type, p_addresses.is_default,
        p_addresses.full_name, p_addresses.company, p_addresses.street_line_1, p_addresses.street_line_2,
        p_addresses.city, p_addresses.province, p_addresses.postal_code, p_addresses.country_code,
        p_addresses.country_name, p_addresses.phone_number, p_addresses.phone_as_entered,
        p_addresses.custom_fields
    ) as r (
        customer_source_id, source_id, address_type, is_default, full_name, company, street_line_1,
        street_line_2, city, province, postal_code, country_code, country_name, phone_number, phone_as_entered,
        custom_fields
    )
    inner join public.customers as c
        on c.store_id = p_store_id and c.source = p_source and c.source_id = r.customer_source_id
    where c.id = any(p_customers)
    -- An address that moved may stand in two books of one slice: the newer book has it.
    order by r.source_id, c.source_version desc
    on conflict (store_id, source, source_id) do update set
        customer_id = excluded.customer_id,
        source_version = excluded.source_version,
        address_type = excluded.address_type,
        is_default = excluded.is_default,
        full_name = excluded.full_name,
        company = excluded.company,
        street_line_1 = excluded.street_line_1,
        street_line_2 = excluded.street_line_2,
        city = excluded.city,
        province = excluded.province,
        postal_code = excluded.postal_code,
        country_code = excluded.country_code,
        country_name = excluded.country_name,
        phone_number = excluded.phone_number,
        phone_as_entered = excluded.phone_as_entered,
        custom_fields = excluded.custom_fields
    where a.source_version < excluded.source_version;

    delete from public.customer_addresses as a
    using public.customers as c
    where c.id = any(p_customers) and a.customer_id = c.id and a.source_version < c.source_version;
end
$$;

comment on function mirror.replace_addresses(uuid, public.commerce_engine, uuid[], mirror.address_columns) is
'Makes these the address books of the customers p_customers, at the customers'' versions: part of upsert_customers.';
revoke execute on function mirror.replace_addresses(uuid, public.commerce_engine, uuid[], mirror.address_columns)
from public;
grant execute on function mirror.replace_addresses(uuid, public.commerce_engine, uuid[], mirror.address_columns)
to service_role;
create function mirror.lock_customers(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_source_ids text[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform
    from public.customers as c
    where c.store_id = p_store_id and c.source = p_source and c.source_id = any(p_source_ids)
    order by c.source_id
    for no key update;
end
$$;

comment on function mirror.lock_customers(uuid, public.commerce_engine, text[]) is
'Locks these customers in the order of their ids, until the transaction ends: whoever writes customers or their orders does so '
'first, and so nobody waits for each other in a circle.';
revoke execute on function mirror.lock_customers(uuid, public.commerce_engine, text[]) from public;
grant execute on function mirror.lock_customers(uuid, public.commerce_engine, text[]) to service_role;
create function mirror.activate_customers(p_store_id uuid, p_emails text[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Two transactions may each bring a customer with the same address and not see the other's. Then the unique index
    -- stops the second one here; when it looks again, the first has committed. And one may take the active customer away
    -- while the other brings an older one: so whoever chooses waits for all who have a customer of the address in hand.
    for attempt in 1..10 loop
        begin
            perform
            from public.customers
            where store_id = p_store_id and email = any(p_emails)
            order by source_id
            for no key update;

            with ranked as (
                select
                    id,
                    row_number() over (
                        partition by email order by registered_at desc nulls last, source_id desc
                    ) = 1 as is_newest
                from public.customers
                where store_id = p_store_id and email = any(p_emails) and deleted_at is null
            )
            update public.customers as c
            set is_active = false
            from ranked
            where c.id = ranked.id and c.is_active and not ranked.is_newest;

            with newest as (
                select distinct on (email) id
                from public.customers
                where store_id = p_store_id and email = any(p_emails) and deleted_at is null
                order by email, registered_at desc nulls last, source_id desc
            )
            update public.customers as c
            set is_active = true
            from newest
            where c.id = newest.id and not c.is_active;
            return;
        exception when unique_violation then
            if attempt = 10 then
                raise;
            end if;
        end;
    end loop;
end
$$;

comment on function mirror.activate_customers(uuid, text[]) is
'Makes the newest registration of each of these e-mail addresses the active one, and the others inactive.';
revoke execute on function mirror.activate_customers(uuid, text[]) from public;
grant execute on function mirror.activate_customers(uuid, text[]) to service_role;
create type mirror.customer_columns as (
    source_id text [],
    source_version timestamptz [],
    email text [],
    phone_number text [],
    phone_as_entered text [],
    phone_verified boolean [],
    title text [],
    first_name text [],
    last_name text [],
    has_account boolean [],
    email_verified boolean [],
    marketing_consent boolean [],
    group_names text [],
    custom_fields jsonb [],
    registered_at timestamptz []
);

create function mirror.upsert_customers(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_customers mirror.customer_columns
        := json_populate_record(null::mirror.customer_columns, p_records -> 'customers');
    v_addresses mirror.address_columns
        := json_populate_record(null::mirror.address_columns, p_records -> 'addresses');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_known jsonb;
    v_written uuid[];
    v_emails text[];
    v_was_overtaken boolean;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;

    -- Lock what is there in key order, and remember the addresses that may become free.
    select
        coalesce(
            jsonb_object_agg(known.source_id, case when known.deleted_at is null then known.email end), '{}'
        )
    into v_known
    from (
        select c.source_id, c.email, c.deleted_at
        from public.customers as c
        where c.store_id = v_store_id and c.source = v_source and c.source_id = any(v_customers.source_id)
        order by c.source_id
        for no key update
    ) as known;

    with written as (
        insert into public.customers as c (
            store_id, source, source_id, source_version, email, phone_number, phone_as_entered, phone_verified,
            title, first_name, last_name, has_account, email_verified, marketing_consent, group_names,
            custom_fields, registered_at, is_active
        )
        select
            v_store_id, v_source, r.source_id, r.source_version, lower(r.email), r.phone_number,
            r.phone_as_entered, coalesce(r.phone_verified, false), r.title, r.first_name, r.last_name,
            coalesce(r.has_account, false), coalesce(r.email_verified, false),
            coalesce(r.marketing_consent, false), mirror.text_array(r.group_names),
            coalesce(r.custom_fields, '{}'), r.registered_at, r.email is null
        from unnest(
            v_customers.source_id, v_customers.source_version, v_customers.email, v_customers.phone_number,
            v_customers.phone_as_entered, v_customers.phone_verified, v_customers.title, v_customers.first_name,
            v_customers.last_name, v_customers.has_account, v_customers.email_verified,
            v_customers.marketing_consent, v_customers.group_names, v_customers.custom_fields,
            v_customers.registered_at
        ) as r (
            source_id, source_version, email, phone_number, phone_as_entered, phone_verified, title, first_name,
            last_name, has_account, email_verified, marketing_consent, group_names, custom_fields, registered_at
        )
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            email = excluded.email,
            phone_number = excluded.phone_number,
            phone_as_entered = excluded.phone_as_entered,
            phone_verified = excluded.phone_verified,
            title = excluded.title,
            first_name = excluded.first_name,
            last_name = excluded.last_name,
            has_account = excluded.has_account,
            email_verified = excluded.email_verified,
            marketing_consent = excluded.marketing_consent,
            group_names = excluded.group_names,
            custom_fields = excluded.custom_fields,
            registered_at = excluded.registered_at,
            -- A deletion that is newer than this state stands: a late update cannot resurrect.
            deleted_at = case when c.deleted_at > excluded.source_version then c.deleted_at end,
            is_active = case
                when c.deleted_at > excluded.source_version then false
                when excluded.email is null then true
                else c.is_active and c.email is not distinct from excluded.email
            end
        where c.source_version < excluded.source_version
        returning c.id, c.source_id, c.email, c.xmax <> 0 as was_there
    )
    select
        array_agg(distinct w.id),
        array_agg(distinct e.email) filter (
            where e.email is not null and w.email is distinct from (v_known ->> w.source_id)
        ),
        bool_or(w.was_there and not v_known ? w.source_id)
    into v_written, v_emails, v_was_overtaken
    from written as w
    cross join lateral (values (w.email::text), (v_known ->> w.source_id)) as e (email);

    if v_written is null then
        return 0;
    end if;
    -- Somebody else brought a customer after we looked: the address that they had before is not known here.
    if v_was_overtaken then
        raise exception 'another transaction brought one of these customers at the same moment'
        using errcode = 'serialization_failure', hint = 'Do the same again.';
    end if;
    if v_emails is not null then
        perform mirror.activate_customers(v_store_id, v_emails);
    end if;
    perform mirror.replace_addresses(v_store_id, v_source, v_written, v_addresses);
    -- An order that was placed under the customer's address is reached under the new one.
    if v_emails is not null then
        update public.customer_orders_summary as o
        set contact_email = c.email
        from public.customers as c
        where
            c.id = any(v_written) and o.customer_id = c.id
            and o.contact_email is not distinct from (v_known ->> c.source_id)
            and o.contact_email is distinct from c.email;
    end if;
    return cardinality(v_written);
end
$$;

comment on function mirror.upsert_customers(uuid, json) is
'Writes customers, each with its whole address book, where they are newer than what is there; returns how many were written. '
'p_records: {"customers": {column: [..]}, "addresses": {column: [..]}} with the columns of mirror.customer_columns and '
'mirror.address_columns; a source_id at most once.';
revoke execute on function mirror.upsert_customers(uuid, json) from public;
grant execute on function mirror.upsert_customers(uuid, json) to service_role;
create type mirror.deletion_columns as (
    source_id text [],
    source_version timestamptz []
);

create function mirror.delete_customers(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions mirror.deletion_columns := json_populate_record(null::mirror.deletion_columns, p_records);
    v_store_id uuid;
    v_source public.commerce_engine;
    v_deleted integer;
    v_emails text[];
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;

    with deleted as (
        insert into public.customers as c (store_id, source, source_id, source_version, deleted_at)
        select v_store_id, v_source, r.source_id, '-infinity', r.source_version
        from unnest(v_deletions.source_id, v_deletions.source_version) as r (source_id, source_version)
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            deleted_at = excluded.deleted_at,
            is_active = false
        where c.source_version < excluded.deleted_at and coalesce(c.deleted_at < excluded.deleted_at, true)
        returning c.email
    )
    select count(*), array_agg(distinct email) filter (where email is not null)
    into v_deleted, v_emails
    from deleted;

    if v_emails is not null then
        perform mirror.activate_customers(v_store_id, v_emails);
    end if;
    return v_deleted;
end
$$;

comment on function mirror.delete_customers(uuid, json) is
'Marks customers deleted where nothing newer is known; returns how many. A customer that was never seen gets a tombstone, '
'so that an older state that arrives later cannot bring it to life. p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_customers(uuid, json) from public;
grant execute on function mirror.delete_customers(uuid, json) to service_role;
create type mirror.item_columns as (
    order_source_id text [],
    source_id text [],
    sku text [],
    product_name text [],
    variant_name text [],
    quantity integer [],
    unit_price_with_tax numeric [],
    line_total_with_tax numeric [],
    patch_enabled boolean [],
    patch_type text [],
    print_name text [],
    print_number text [],
    is_pre_order boolean [],
    custom_fields jsonb []
);

create function mirror.replace_order_items(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_items mirror.item_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.customer_order_items as i (
        store_id, order_summary_id, source_id, source_version, sku, product_name, variant_name, quantity, currency,
        unit_price_with_tax, line_total_with_tax, patch_enabled, patch_type, print_name, print_number,
        is_pre_order, custom_fields
    )
    select
        p_store_id, o.id, r.source_id, o.source_version, r.sku, r.product_name, r.variant_name, r.quantity,
        o.currency, r.unit_price_with_tax, r.line_total_with_tax, coalesce(r.patch_enabled, false), r.patch_type,
        r.print_name, r.print_number, coalesce(r.is_pre_order, false), coalesce(r.custom_fields, '{}')
    from unnest(
        p_items.order_source_id, p_items.source_id, p_items.sku, p_items.product_name, p_items.variant_name,
        p_items.quantity, p_items.unit_price_with_tax, p_items.line_total_with_tax, p_items.patch_enabled,
        p_items.patch_type, p_items.print_name, p_items.print_number, p_items.is_pre_order,
        p_items.custom_fields
    ) as r (
        order_source_id, source_id, sku, product_name, variant_name, quantity, unit_price_with_tax,
        line_total_with_tax, patch_enabled, patch_type, print_name, print_number, is_pre_order, custom_fields
    )
    inner join public.customer_orders_summary as o
        on o.store_id = p_store_id and o.source = p_source and o.source_id = r.order_source_id
    where o.id = any(p_orders)
    on conflict (order_summary_id, source_id) do update set
        source_version = excluded.source_version,
        sku = excluded.sku,
        product_name = excluded.product_name,
        variant_name = excluded.variant_name,
        quantity = excluded.quantity,
        currency = excluded.currency,
        unit_price_with_tax = excluded.unit_price_with_tax,
        line_total_with_tax = excluded.line_total_with_tax,
        patch_enabled = excluded.patch_enabled,
        patch_type = excluded.patch_type,
        print_name = excluded.print_name,
        print_number = excluded.print_number,
        is_pre_order = excluded.is_pre_order,
        custom_fields = excluded.custom_fields
    where i.source_version < excluded.source_version;

    delete from public.customer_order_items as i
    using public.customer_orders_summary as o
    where o.id = any(p_orders) and i.order_summary_id = o.id and i.source_version < o.source_version;
end
$$;

comment on function mirror.replace_order_items(uuid, public.commerce_engine, uuid[], mirror.item_columns) is
'Makes these the lines of the orders p_orders, at the orders'' versions: part of upsert_orders.';
revoke execute on function mirror.replace_order_items(uuid, public.commerce_engine, uuid[], mirror.item_columns)
from public;
grant execute on function mirror.replace_order_items(uuid, public.commerce_engine, uuid[], mirror.item_columns)
to service_role;
create type mirror.stage_columns as (
    order_source_id text [],
    source_id text [],
    from_stage public.delivery_stage [],
    stage public.delivery_stage [],
    tracking_number text [],
    changed_at timestamptz []
);

create function mirror.record_delivery(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_carriers jsonb,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_delivery_status as s (
        store_id, order_summary_id, order_code, stage, tracking_number, carrier, updated_by
    )
    select
        o.store_id, o.id, o.order_code, o.delivery_stage, o.tracking_number, p_carriers ->> o.source_id,
        p_source::text
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    order by o.source_id
    on conflict (order_summary_id) do update set
        order_code = excluded.order_code,
        stage = excluded.stage,
        tracking_number = excluded.tracking_number,
        carrier = excluded.carrier,
        updated_by = excluded.updated_by
    where (s.order_code, s.stage, s.tracking_number, s.carrier)
    is distinct from (excluded.order_code, excluded.stage, excluded.tracking_number, excluded.carrier);

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, r.from_stage, r.stage, r.tracking_number, p_source::text, r.source_id,
        r.changed_at
    from unnest(
        p_stages.order_source_id, p_stages.source_id, p_stages.from_stage, p_stages.stage,
        p_stages.tracking_number, p_stages.changed_at
    ) as r (order_source_id, source_id, from_stage, stage, tracking_number, changed_at)
    inner join public.customer_orders_summary as o
        on o.store_id = p_store_id and o.source = p_source and o.source_id = r.order_source_id
    where o.id = any(p_orders)
    on conflict (order_summary_id, source_id) do nothing;

    -- An engine that keeps no history of its own: the reading is when we learned of the stage.
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, latest.stage, o.delivery_stage, o.tracking_number, p_source::text,
        'read ' || to_char(o.source_version at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        o.source_version
    from public.customer_orders_summary as o
    cross join lateral (
        select e.stage
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id
        order by e.updated_at desc
        limit 1
    ) as latest
    where
        o.id = any(p_orders) and not exists (
            select from public.order_delivery_status_events as e
            where e.order_summary_id = o.id and e.stage = o.delivery_stage
        );
end
$$;

comment on function mirror.record_delivery(uuid, public.commerce_engine, uuid[], jsonb, mirror.stage_columns) is
'Brings delivery status and its history up to the orders p_orders: part of upsert_orders.';
revoke execute on function mirror.record_delivery(
    uuid, public.commerce_engine, uuid[], jsonb, mirror.stage_columns
) from public;
grant execute on function mirror.record_delivery(
    uuid, public.commerce_engine, uuid[], jsonb, mirror.stage_columns
) to service_role;
create type mirror.order_columns as (
    source_id text [],
    source_version timestamptz [],
    customer_source_id text [],
    order_code text [],
    order_state text [],
    order_date timestamptz [],
    delivery_stage public.delivery_stage [],
    tracking_number text [],
    carrier text [],
    payment_method text [],
    currency text [],
    sub_total numeric [],
    shipping numeric [],
    tax numeric [],
    discount numeric [],
    total numeric [],
    total_with_tax numeric [],
    total_paid numeric [],
    total_refunded numeric [],
    coupon_codes text [],
    shipping_method text [],
    shipping_address jsonb [],
    billing_address jsonb [],
    contact_name text [],
    contact_phone text [],
    contact_email text [],
    custom_fields jsonb [],
    cancelled_at timestamptz []
);

create function mirror.upsert_orders(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_orders mirror.order_columns
        := json_populate_record(null::mirror.order_columns, p_records -> 'orders');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_written uuid[];
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;

    -- An order may arrive before its customer: a bare reference waits for the customer's own state.
    insert into public.customers (store_id, source, source_id, source_version, is_active)
    select v_store_id, v_source, missing.source_id, '-infinity', true
    from (
        select distinct r.source_id
        from unnest(v_orders.customer_source_id) as r (source_id)
        where r.source_id is not null and not exists (
            select from public.customers as c
            where c.store_id = v_store_id and c.source = v_source and c.source_id = r.source_id
        )
    ) as missing
    order by missing.source_id
    on conflict (store_id, source, source_id) do nothing;

    -- What an order takes from its customer must not change before the order is there to be changed with it.
    perform mirror.lock_customers(v_store_id, v_source, v_orders.customer_source_id);

    with written as (
        insert into public.customer_orders_summary as o (
            store_id, source, source_id, source_version, customer_id, order_code, order_state, order_date,
            delivery_stage, tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total,
            total_with_tax, total_paid, total_refunded, coupon_codes, shipping_method, shipping_address,
            billing_address, contact_name, contact_phone, contact_email, custom_fields, cancelled_at
        )
        select
            v_store_id, v_source, r.source_id, r.source_version, c.id, r.order_code, r.order_state, r.order_date,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.payment_method, r.currency,
            r.sub_total, r.shipping, r.tax, r.discount, r.total, r.total_with_tax, r.total_paid,
            r.total_refunded, mirror.text_array(r.coupon_codes), r.shipping_method, r.shipping_address,
            r.billing_address, r.contact_name, r.contact_phone,
            coalesce(lower(r.contact_email), c.email),
            coalesce(r.custom_fields, '{}'), r.cancelled_at
        from unnest(
            v_orders.source_id, v_orders.source_version, v_orders.customer_source_id, v_orders.order_code,
            v_orders.order_state, v_orders.order_date, v_orders.delivery_stage, v_orders.tracking_number,
            v_orders.payment_method, v_orders.currency, v_orders.sub_total, v_orders.shipping, v_orders.tax,
            v_orders.discount, v_orders.total, v_orders.total_with_tax, v_orders.total_paid,
            v_orders.total_refunded, v_orders.coupon_codes, v_orders.shipping_method, v_orders.shipping_address,
            v_orders.billing_address, v_orders.contact_name, v_orders.contact_phone, v_orders.contact_email,
            v_orders.custom_fields, v_orders.cancelled_at
        ) as r (
            source_id, source_version, customer_source_id, order_code, order_state, order_date, delivery_stage,
            tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total, total_with_tax,
            total_paid, total_refunded, coupon_codes, shipping_method, shipping_address, billing_address,
            contact_name, contact_phone, contact_email, custom_fields, cancelled_at
        )
        left join public.customers as c
            on c.store_id = v_store_id and c.source = v_source and c.source_id = r.customer_source_id
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            customer_id = excluded.customer_id,
            order_code = excluded.order_code,
            order_state = excluded.order_state,
            order_date = excluded.order_date,
            delivery_stage = excluded.delivery_stage,
            tracking_number = excluded.tracking_number,
            payment_method = excluded.payment_method,
            currency = excluded.currency,
            sub_total = excluded.sub_total,
            shipping = excluded.shipping,
            tax = excluded.tax,
            discount = excluded.discount,
            total = excluded.total,
            total_with_tax = excluded.total_with_tax,
            total_paid = excluded.total_paid,
            total_refunded = excluded.total_refunded,
            coupon_codes = excluded.coupon_codes,
            shipping_method = excluded.shipping_method,
            shipping_address = excluded.shipping_address,
            billing_address = excluded.billing_address,
            contact_name = excluded.contact_name,
            contact_phone = excluded.contact_phone,
            contact_email = excluded.contact_email,
            custom_fields = excluded.custom_fields,
            cancelled_at = excluded.cancelled_at,
            -- A deletion that is newer than this state stands: a late update cannot resurrect.
            deleted_at = case when o.deleted_at > excluded.source_version then o.deleted_at end
        where o.source_version < excluded.source_version
        returning o.id
    )
    select array_agg(id) into v_written from written;

    if v_written is null then
        return 0;
    end if;
    perform mirror.replace_order_items(
        v_store_id, v_source, v_written,
        json_populate_record(null::mirror.item_columns, p_records -> 'items')
    );
    perform mirror.record_delivery(
        v_store_id, v_source, v_written,
        jsonb_object(v_orders.source_id, v_orders.carrier),
        json_populate_record(null::mirror.stage_columns, p_records -> 'stages')
    );
    return cardinality(v_written);
end
$$;

comment on function mirror.upsert_orders(uuid, json) is
'Writes placed orders with all their lines and delivery history where they are newer than what is there; returns how many were '
'written. p_records: {"orders": {column: [..]}, "items": {..}, "stages": {..}} with the columns of mirror.order_columns, '
'mirror.item_columns and mirror.stage_columns; a source_id at most once.';
revoke execute on function mirror.upsert_orders(uuid, json) from public;
grant execute on function mirror.upsert_orders(uuid, json) to service_role;
create function mirror.delete_orders(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions mirror.deletion_columns := json_populate_record(null::mirror.deletion_columns, p_records);
    v_deleted integer;
begin
    insert into public.customer_orders_summary as o (store_id, source, source_id, source_version, deleted_at)
    select i.store_id, i.engine, r.source_id, '-infinity', r.source_version
    from mirror.integrations as i
    cross join unnest(v_deletions.source_id, v_deletions.source_version) as r (source_id, source_version)
    where i.id = p_integration_id
    order by r.source_id
    on conflict (store_id, source, source_id) do update set deleted_at = excluded.deleted_at
    where o.source_version < excluded.deleted_at and coalesce(o.deleted_at < excluded.deleted_at, true);
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function mirror.delete_orders(uuid, json) is
'Marks orders deleted where nothing newer is known; returns how many. An order that was never seen gets a tombstone. '
'p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_orders(uuid, json) from public;
grant execute on function mirror.delete_orders(uuid, json) to service_role;
create function mirror.apply_events(p_claim uuid, p_records json, p_settlements json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_records json;
    v_integration_id uuid;
    v_customers integer := 0;
    v_orders integer := 0;
begin
    for v_records in select value from json_array_elements(p_records) loop
        v_integration_id := v_records ->> 'integration_id';
        perform mirror.lock_customers(i.store_id, i.engine, array(
            select json_array_elements_text(v_records #> '{customers,source_id}')
            union
            select json_array_elements_text(v_records #> '{deleted_customers,source_id}')
            union
            select json_array_elements_text(v_records #> '{orders,customer_source_id}')
        ))
        from mirror.integrations as i
        where i.id = v_integration_id;
        v_customers := v_customers
            + mirror.upsert_customers(v_integration_id, v_records)
            + mirror.delete_customers(v_integration_id, v_records -> 'deleted_customers');
        v_orders := v_orders
            + mirror.upsert_orders(v_integration_id, v_records)
            + mirror.delete_orders(v_integration_id, v_records -> 'deleted_orders');
    end loop;
    perform mirror.settle_events(p_claim, p_settlements);
    return json_build_object('customers', v_customers, 'orders', v_orders);
end
$$;

comment on function mirror.apply_events(uuid, json, json) is
'Applies the records of a slice of events and settles the events, all or nothing; returns how many customers and orders changed. '
'p_records: a list with, per integration, {"integration_id", "customers", "addresses", "deleted_customers", "orders", "items", '
'"stages", "deleted_orders"} as upsert_customers, delete_customers, upsert_orders and delete_orders take them; '
'p_settlements as settle_events takes it.';
revoke execute on function mirror.apply_events(uuid, json, json) from public;
grant execute on function mirror.apply_events(uuid, json, json) to service_role;
create function mirror.track_order(p_store_slug text, p_order_code text, p_phone text) returns json
language plpgsql stable
set search_path = ''
as $$
declare
    v_order public.customer_orders_summary;
    v_status public.order_delivery_status;
    v_is_shown boolean;
begin
    select o.* into v_order
    from public.stores as s
    inner join public.customer_orders_summary as o on o.store_id = s.id and o.order_code = p_order_code
    left join public.customers as c on c.id = o.customer_id
    where
        s.slug = p_store_slug and s.is_active and o.deleted_at is null
        and (o.contact_phone = p_phone or c.phone_number = p_phone);
    if not found then
        return null;
    end if;

    select * into strict v_status from public.order_delivery_status where order_summary_id = v_order.id;
    v_is_shown := v_status.stage >= 'DISPATCHED';
    return json_build_object(
        'order_code', v_order.order_code,
        'placed_at', v_order.order_date,
        'cancelled_at', v_order.cancelled_at,
        'stage', v_status.stage,
        'timeline', (
            select json_agg(json_build_object('stage', stages.stage, 'reached_at', reached.at) order by stages.stage)
            from unnest(enum_range(null::public.delivery_stage)) as stages (stage)
            left join (
                select e.stage, max(e.updated_at) as at
                from public.order_delivery_status_events as e
                where e.order_summary_id = v_order.id and e.from_stage is distinct from e.stage
                group by e.stage
            ) as reached on reached.stage = stages.stage and stages.stage <= v_status.stage
        ),
        'tracking_number', case when v_is_shown then v_status.tracking_number end,
        'carrier', case when v_is_shown then v_status.carrier end,
        'currency', v_order.currency,
        'total_with_tax', v_order.total_with_tax::text,
        'items', (
            select coalesce(
                json_agg(
                    json_build_object(
                        'product_name', i.product_name,
                        'variant_name', i.variant_name,
                        'quantity', i.quantity,
                        'print_name', i.print_name,
                        'print_number', i.print_number
                    )
                    order by i.product_name, i.variant_name, i.id
                ),
                '[]'
            )
            from public.customer_order_items as i
            where i.order_summary_id = v_order.id and i.quantity > 0
        )
    );
end
$$;

comment on function mirror.track_order(text, text, text) is
'Where an order is, for whoever knows its code and a phone number of it (digits with country code); null for any other pair. '
'The tracking number is told from DISPATCHED on.';
revoke execute on function mirror.track_order(text, text, text) from public;
grant execute on function mirror.track_order(text, text, text) to service_role;
create function mirror.list_integrations() returns table (
    id uuid,
    store_id uuid,
    slug text,
    engine text,
    secrets_variable text,
    money_precision smallint,
    phone_region text
)
language sql stable
set search_path = ''
as $$
    select i.id, i.store_id, i.slug, i.engine::text, i.secrets_variable, i.money_precision, s.phone_region
    from mirror.integrations as i
    inner join public.stores as s on s.id = i.store_id
    where i.is_active and s.is_active
$$;

comment on function mirror.list_integrations() is 'The engines that are connected, with what reading their payloads needs.';
revoke execute on function mirror.list_integrations() from public;
grant execute on function mirror.list_integrations() to service_role;
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
create function mirror.get_status() returns json
language sql stable
set search_path = ''
as $$
    select json_build_object(
        'inbox', (
            select json_object_agg(states.state, coalesce(counted.events, 0) order by states.state)
            from unnest(enum_range(null::mirror.event_state)) as states (state)
            left join (
                select e.state, count(*) as events
                from mirror.webhook_events as e
                group by e.state
            ) as counted using (state)
        ),
        'lag_seconds', coalesce((
            select extract(epoch from now() - min(e.created_at))::float8
            from mirror.webhook_events as e
            where e.state = 'pending'
        ), 0),
        'dead_letters', coalesce((
            select json_agg(json_build_object(
                'event_id', dead.event_id, 'event_type', dead.event_type, 'entity_id', dead.entity_id,
                'reason', dead.reason, 'settled_at', dead.settled_at
            ))
            from (
                select e.event_id, e.event_type, e.entity_id, e.reason, e.settled_at
                from mirror.webhook_events as e
                where e.state = 'dead'
                order by e.settled_at desc
                limit 10
            ) as dead
        ), '[]'),
        'tables', json_build_object(
            'customers', (select count(*) from public.customers),
            'customer_addresses', (select count(*) from public.customer_addresses),
            'customer_orders_summary', (select count(*) from public.customer_orders_summary),
            'customer_order_items', (select count(*) from public.customer_order_items),
            'order_delivery_status', (select count(*) from public.order_delivery_status),
            'order_delivery_status_events', (select count(*) from public.order_delivery_status_events)
        )
    )
$$;

comment on function mirror.get_status() is
'How the mirror does: events by state, the age in seconds of the oldest pending one, the newest dead letters, rows per table.';
revoke execute on function mirror.get_status() from public;
grant execute on function mirror.get_status() to service_role;
create function mirror.read_customers(p_integration_id uuid, p_source_ids text[]) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(
        to_jsonb(c)
        || jsonb_build_object(
            'source_version', nullif(c.source_version, '-infinity'),
            'addresses', coalesce((
                select jsonb_agg(to_jsonb(a) order by a.source_id)
                from public.customer_addresses as a
                where a.customer_id = c.id
            ), '[]')
        )
    ), '[]')
    from mirror.integrations as i
    inner join public.customers as c on c.store_id = i.store_id and c.source = i.engine
    where i.id = p_integration_id and c.source_id = any(p_source_ids)
$$;

comment on function mirror.read_customers(uuid, text[]) is
'The customers with these ids as the tables have them, each with its addresses; source_version is null for a bare reference.';
revoke execute on function mirror.read_customers(uuid, text[]) from public;
grant execute on function mirror.read_customers(uuid, text[]) to service_role;

create function mirror.read_orders(p_integration_id uuid, p_source_ids text[]) returns json
language sql stable
set search_path = ''
as $$
    select coalesce(json_agg(
        to_jsonb(o)
        || jsonb_build_object(
            'customer_source_id', c.source_id,
            'carrier', s.carrier,
            'delivery_stage', s.stage,
            'tracking_number', s.tracking_number,
            'items', coalesce((
                select jsonb_agg(to_jsonb(t) order by t.source_id)
                from public.customer_order_items as t
                where t.order_summary_id = o.id
            ), '[]'),
            'stages', coalesce((
                select jsonb_agg(to_jsonb(e) || jsonb_build_object('changed_at', e.updated_at) order by e.source_id)
                from public.order_delivery_status_events as e
                where e.order_summary_id = o.id
            ), '[]')
        )
    ), '[]')
    from mirror.integrations as i
    inner join public.customer_orders_summary as o on o.store_id = i.store_id and o.source = i.engine
    left join public.customers as c on c.id = o.customer_id
    left join public.order_delivery_status as s on s.order_summary_id = o.id
    where i.id = p_integration_id and o.source_id = any(p_source_ids) and o.source_version > '-infinity'
$$;

comment on function mirror.read_orders(uuid, text[]) is
'The orders with these ids as the tables have them, each with its items, delivery status and history; no bare tombstones.';
revoke execute on function mirror.read_orders(uuid, text[]) from public;
grant execute on function mirror.read_orders(uuid, text[]) to service_role;
-- Row-level security is on for every table, for its owner too. Machinery and inbox have no policy: only roles that bypass
-- row-level security (service_role, postgres) reach them.

alter table public.stores enable row level security;
alter table public.stores force row level security;
alter table public.customers enable row level security;
alter table public.customers force row level security;
alter table public.customer_addresses enable row level security;
alter table public.customer_addresses force row level security;
alter table public.customer_orders_summary enable row level security;
alter table public.customer_orders_summary force row level security;
alter table public.customer_order_items enable row level security;
alter table public.customer_order_items force row level security;
alter table public.order_delivery_status enable row level security;
alter table public.order_delivery_status force row level security;
alter table public.order_delivery_status_events enable row level security;
alter table public.order_delivery_status_events force row level security;
alter table mirror.integrations enable row level security;
alter table mirror.integrations force row level security;
alter table mirror.webhook_events enable row level security;
alter table mirror.webhook_events force row level security;

create policy "customers read themselves" on public.customers
for select to authenticated
using (auth_user_id = (select auth.uid()) and deleted_at is null);

create policy "customers read their addresses" on public.customer_addresses
for select to authenticated
using (customer_id in (select id from public.customers where auth_user_id = (select auth.uid())));

create policy "customers read their orders" on public.customer_orders_summary
for select to authenticated
using (
    customer_id in (select id from public.customers where auth_user_id = (select auth.uid()))
    and deleted_at is null
);

create policy "customers read the items of their orders" on public.customer_order_items
for select to authenticated
using (order_summary_id in (select id from public.customer_orders_summary));

create policy "customers read the delivery of their orders" on public.order_delivery_status
for select to authenticated
using (order_summary_id in (select id from public.customer_orders_summary));

create policy "customers read the delivery history of their orders" on public.order_delivery_status_events
for select to authenticated
using (order_summary_id in (select id from public.customer_orders_summary));
-- Who may do what. Supabase grants the roles of its Data API a few rights on new objects by default: start from none.

revoke all on
public.stores,
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events
from public, anon, authenticated, service_role;

grant select on
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events
to authenticated;

grant select, insert, update, delete on
public.stores,
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events,
mirror.integrations,
mirror.webhook_events
to service_role;
