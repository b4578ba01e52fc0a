create table public.order_batch_assignments (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null default mirror.default_store_id() references public.stores (id),
    order_summary_id uuid not null references public.customer_orders_summary (id),
    batch_id uuid not null references public.import_batches (id),
    vendure_order_id text,
    is_open boolean not null default true,
    assigned_by text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (order_summary_id, batch_id)
);

comment on table public.order_batch_assignments is
'Which order is in which import batch. Change batch_id to move an order, delete the row to pull it out.';
comment on column public.order_batch_assignments.is_open is
'The batch is not completed yet: an order is in one open batch at the most. Kept by the mirror.';
comment on column public.order_batch_assignments.assigned_by is 'Who put the order there. Kept by the mirror.';

create unique index order_batch_assignments_one_open on public.order_batch_assignments (order_summary_id) where is_open;
create index order_batch_assignments_batch_id on public.order_batch_assignments (batch_id);
create index order_batch_assignments_store_id on public.order_batch_assignments (store_id);

create trigger touch_updated_at before update on public.order_batch_assignments
for each row execute function mirror.touch_updated_at();
