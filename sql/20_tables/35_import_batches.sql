create table public.import_batches (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null default mirror.default_store_id() references public.stores (id),
    batch_number text not null default public.generate_batch_number() check (batch_number <> ''),
    name text,
    notes text,
    status public.batch_status not null default 'collecting',
    target_order_count integer check (target_order_count > 0),
    order_count integer not null default 0 check (order_count >= 0),
    is_ready boolean not null default false,
    expected_arrival_date date,
    ordered_at timestamptz,
    in_transit_at timestamptz,
    arrived_at timestamptz,
    dispatched_at timestamptz,
    completed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, batch_number)
) with (fillfactor = 85);

comment on table public.import_batches is
'Orders that are bought from the supplier together. Move a batch on by its status; its orders'' stages follow.';
comment on column public.import_batches.status is
'Forward only. orderedFromSupplier, arrived, dispatched and completed move the orders to SOURCING, ARRIVED, DISPATCHED and '
'DELIVERED.';
comment on column public.import_batches.target_order_count is
'With so many orders the batch is ready to be ordered, and a new one opens; empty: no target.';
comment on column public.import_batches.order_count is
'Orders in the batch, without cancelled ones. Counted by the mirror.';
comment on column public.import_batches.is_ready is
'The batch is still collecting and has reached its target. Kept by the mirror.';

create index import_batches_open on public.import_batches (store_id, id) where status = 'collecting' and not is_ready;
create index import_batches_status on public.import_batches (store_id, status);

create trigger touch_updated_at before update on public.import_batches
for each row execute function mirror.touch_updated_at();
