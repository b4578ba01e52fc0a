create table mirror.lexoffice_settings (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null unique references public.stores (id) on delete cascade,
    is_active boolean not null default false,
    books_since date,
    category_id uuid not null default '8f8664a8-fd86-11e1-a21f-0800200c9a66',
    untaxed_category_id uuid,
    is_small_business boolean not null default false,
    tax_rates numeric[] not null default '{19,7,0}' check (cardinality(tax_rates) > 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.lexoffice_settings is
'How a store''s invoices are booked in Lexware Office. A row per store. Nothing is pushed while no daemon has a '
'LEXOFFICE_API_KEY.';
comment on column mirror.lexoffice_settings.is_active is
'Whether this store''s invoices are pushed. There is one account: of several stores, those that it keeps the books of.';
comment on column mirror.lexoffice_settings.books_since is
'Invoices issued on this day (of the store''s time zone) or later are pushed. Empty: a daemon sets it to the day on which it '
'first has a key, so that nothing is booked twice that was booked by hand. An earlier day brings those before it, too.';
comment on column mirror.lexoffice_settings.category_id is
'Lexware Office''s posting category of sales: goods (Warenverkäufe) at first; services are '
'8f8664a0-fd86-11e1-a21f-0800200c9a66.';
comment on column mirror.lexoffice_settings.untaxed_category_id is
'The posting category of what an invoice names no tax for. Empty: such an invoice is refused.';
comment on column mirror.lexoffice_settings.is_small_business is
'A small business (§ 19 UStG): invoices have no VAT, are booked as such, and one with VAT is refused.';
comment on column mirror.lexoffice_settings.tax_rates is
'Per cent of VAT that may be booked. An invoice with another one is refused.';

create trigger touch_updated_at before update on mirror.lexoffice_settings
for each row execute function mirror.touch_updated_at();

insert into mirror.lexoffice_settings (store_id, is_active)
select id, slug = 'default' from public.stores;

create table mirror.lexoffice_pace (
    id boolean primary key default true check (id),
    spacing interval not null default '600 milliseconds' check (spacing between '0' and '1 minute'),
    next_at timestamptz not null default now(),
    strikes integer not null default 0 check (strikes >= 0),
    updated_at timestamptz not null default now()
);

comment on table mirror.lexoffice_pace is
'When Lexware Office may be asked next, whoever asks: it takes 2 requests a second from all of us together. One row.';
comment on column mirror.lexoffice_pace.spacing is
'Between two requests. A little more than half a second: requests that set out evenly do not arrive so.';
comment on column mirror.lexoffice_pace.strikes is 'How often it has said "too many requests" since it last took one.';

create trigger touch_updated_at before update on mirror.lexoffice_pace
for each row execute function mirror.touch_updated_at();

insert into mirror.lexoffice_pace default values;
