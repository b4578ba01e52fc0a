-- Batches, delivery rules, statistics and the audit log, on top of the first schema.

-- Counting a large shop's orders takes longer than Supabase gives a statement.
set local statement_timeout = 0;

create type public.batch_status as enum (
    'collecting', 'orderedFromSupplier', 'inTransit', 'arrived', 'dispatched', 'completed'
);
comment on type public.batch_status is 'Where an import batch is, in the order in which it happens.';

create type public.purchase_change as enum ('new', 'changed', 'unchanged', 'removed');
comment on type public.purchase_change is 'What became of a line of a purchase list since the export before.';

alter table public.stores
add column batches_all_orders boolean not null default false,
add column batch_target_order_count integer check (batch_target_order_count > 0),
add column requires_tracking_number boolean not null default false,
add column pay_on_delivery_methods text[] not null default '{cash-on-delivery,cod,COD}';

comment on column public.stores.batches_all_orders is
'Every order joins the open import batch; otherwise only an order with a pre-order item does.';
comment on column public.stores.batch_target_order_count is
'Orders that a new import batch waits for before it is ready to be ordered; empty: no target.';
comment on column public.stores.requires_tracking_number is
'An order cannot be DISPATCHED without a tracking number.';
comment on column public.stores.pay_on_delivery_methods is
'Payment methods that are paid at the door: such an order needs no attention for being unpaid before it is DELIVERED.';

alter table public.customers
add column total_orders integer not null default 0,
add column total_spent public.money_amount not null default 0,
add column spent_by_currency jsonb not null default '{}',
add column last_order_date timestamptz;

comment on column public.customers.total_orders is 'Placed orders that are neither cancelled nor deleted. Kept by the mirror.';
comment on column public.customers.total_spent is
'What those orders come to less refunds, in the store''s currency. Kept by the mirror.';
comment on column public.customers.spent_by_currency is 'The same for every currency: {"LKR": 1500.00, "JPY": 3000}.';
comment on column public.customers.last_order_date is 'When the latest of those orders was placed.';

alter table public.order_delivery_status
add column note text,
add column eta date,
add column is_cancelled boolean not null default false,
add column confirmed_at timestamptz not null default now(),
add column sourcing_at timestamptz,
add column arrived_at timestamptz,
add column dispatched_at timestamptz,
add column delivered_at timestamptz,
add column stage_since timestamptz generated always as (
    case stage
        when 'ORDER_CONFIRMED' then confirmed_at
        when 'SOURCING' then sourcing_at
        when 'ARRIVED' then arrived_at
        when 'DISPATCHED' then dispatched_at
        when 'DELIVERED' then delivered_at
    end
) stored;

comment on column public.order_delivery_status.note is 'A word on the latest change; it goes into the history.';
comment on column public.order_delivery_status.eta is 'When the customer may expect the parcel.';
comment on column public.order_delivery_status.is_cancelled is
'The order is cancelled or deleted: its delivery no longer moves. Kept by the mirror.';
comment on column public.order_delivery_status.confirmed_at is 'When the stage was reached last; kept by the mirror, like those that follow.';
comment on column public.order_delivery_status.stage_since is 'Since when the order is at its stage.';

create index order_delivery_status_open on public.order_delivery_status (store_id, stage, stage_since)
where stage <> 'DELIVERED' and not is_cancelled;

alter table public.order_delivery_status_events
add column note text,
add column actor text;

comment on column public.order_delivery_status_events.actor is
'How the change came: engine:vendure, studio, service, api:<user>, or a database role.';

create function mirror.default_store_id() returns uuid
language sql stable
set search_path = ''
as $$
    select id from public.stores where is_active order by id limit 1
$$;

comment on function mirror.default_store_id() is 'The oldest active store: a shop that has one store never has to name it.';
revoke execute on function mirror.default_store_id() from public;
grant execute on function mirror.default_store_id() to service_role;

create table mirror.batch_numbers (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    day date not null,
    last_number integer not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, day)
);

comment on table mirror.batch_numbers is 'The last number given to an import batch, by store and day.';

create trigger touch_updated_at before update on mirror.batch_numbers
for each row execute function mirror.touch_updated_at();

create function mirror.next_batch_number(p_store_id uuid) returns text
language plpgsql
set search_path = ''
as $$
declare
    v_day date;
    v_number integer;
    v_batch_number text;
begin
    select (now() at time zone timezone)::date into strict v_day
    from public.stores
    where id = p_store_id;

    loop
        insert into mirror.batch_numbers as n (store_id, day, last_number)
        values (p_store_id, v_day, 1)
        on conflict (store_id, day) do update set last_number = n.last_number + 1
        returning last_number into v_number;
        v_batch_number := to_char(v_day, 'YYYYMMDD') || '-' || lpad(v_number::text, greatest(4, length(v_number::text)), '0');
        -- An admin may have entered a number by hand.
        exit when not exists (
            select from public.import_batches as b where b.store_id = p_store_id and b.batch_number = v_batch_number
        );
    end loop;
    return v_batch_number;
end
$$;

comment on function mirror.next_batch_number(uuid) is
'A batch number that no other batch of the store has: YYYYMMDD-####, by the day in the store''s time zone.';
revoke execute on function mirror.next_batch_number(uuid) from public;
grant execute on function mirror.next_batch_number(uuid) to service_role;

create function public.generate_batch_number() returns text
language sql
set search_path = ''
as $$
    select mirror.next_batch_number(mirror.default_store_id())
$$;

comment on function public.generate_batch_number() is
'A new batch number of the default store: YYYYMMDD-####, by the day in the store''s time zone.';
revoke execute on function public.generate_batch_number() from public;
grant execute on function public.generate_batch_number() to service_role;

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

create table public.supplier_purchase_lists (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    batch_id uuid not null references public.import_batches (id),
    export_number integer not null check (export_number > 0),
    product_sku text,
    variant_sku text,
    product_name text not null,
    variant_name text not null,
    patch_enabled boolean not null,
    patch_type text,
    print_name text,
    print_number text,
    quantity integer not null check (quantity >= 0),
    previous_quantity integer not null check (previous_quantity >= 0),
    change public.purchase_change not null,
    source_item_ids uuid[] not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique nulls not distinct (
        batch_id, export_number, variant_sku, product_name, variant_name, patch_enabled, patch_type, print_name, print_number
    )
);

comment on table public.supplier_purchase_lists is
'What to buy for a batch: a row for each article with its patch and print, by export. Made by export_supplier_purchase_list.';
comment on column public.supplier_purchase_lists.export_number is 'Counts the exports of the batch: 1, 2, …';
comment on column public.supplier_purchase_lists.product_sku is
'The product''s own number, where the engine has one; Vendure has only variants'' SKUs.';
comment on column public.supplier_purchase_lists.quantity is
'To be bought in all. 0: was on the list before, and is not wanted any more.';
comment on column public.supplier_purchase_lists.previous_quantity is 'On the export before.';
comment on column public.supplier_purchase_lists.source_item_ids is
'The order items (customer_order_items.id) that make up the row.';

create index supplier_purchase_lists_store_id on public.supplier_purchase_lists (store_id);

create trigger touch_updated_at before update on public.supplier_purchase_lists
for each row execute function mirror.touch_updated_at();

create table public.otp_sessions (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null default mirror.default_store_id() references public.stores (id),
    session_id text not null unique check (session_id <> ''),
    phone public.phone_digits not null,
    purpose text not null,
    otp_hash text not null check (otp_hash ~ '^\$2[aby]\$'),
    verified boolean not null default false,
    attempts integer not null default 0 check (attempts >= 0),
    ip_hash text,
    sent_at timestamptz,
    locked_until timestamptz,
    expires_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table public.otp_sessions is 'Phone numbers being proved by an SMS code. Only the service sees them.';
comment on column public.otp_sessions.otp_hash is 'bcrypt of the code; the code itself is nowhere.';

create index otp_sessions_phone on public.otp_sessions (store_id, phone);
create index otp_sessions_expires_at on public.otp_sessions (expires_at);

create trigger touch_updated_at before update on public.otp_sessions
for each row execute function mirror.touch_updated_at();

create table mirror.audit_log (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    actor text not null,
    database_role text not null,
    action text not null check (action in ('insert', 'update', 'delete')),
    table_name text not null,
    row_id uuid not null,
    old_values jsonb,
    new_values jsonb,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.audit_log is
'Who changed what in batches, deliveries and customers'' consent. Rows are added, never changed or removed.';
comment on column mirror.audit_log.actor is 'engine:vendure, studio, service, api:<user>, or a database role.';
comment on column mirror.audit_log.database_role is 'The role that the change was made with; through PostgREST, the token''s.';
comment on column mirror.audit_log.old_values is 'The columns that changed, before; of a deleted row all.';
comment on column mirror.audit_log.new_values is 'The columns that changed, after; of a new row all.';

create index audit_log_store_id on mirror.audit_log (store_id, created_at);
create index audit_log_row_id on mirror.audit_log (row_id);

-- What the delivery statistics read: kept by triggers on order_delivery_status, and equal to counting anew. A change only ever
-- adds rows, with what it adds or takes away, so that two that move orders at once never wait for each other; what counts is
-- their sum. mirror.fold_delivery_rollups() makes one row of many from time to time.

create table mirror.delivery_stage_counts (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    stage public.delivery_stage not null,
    orders bigint not null
);

comment on table mirror.delivery_stage_counts is
'How many orders are at each stage now, without cancelled ones: the sum of the rows.';

create index delivery_stage_counts_store_id on mirror.delivery_stage_counts (store_id);

create table mirror.delivery_durations (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    day date not null,
    from_stage public.delivery_stage not null,
    stage public.delivery_stage not null,
    hours integer not null,
    orders integer not null,
    is_folded boolean not null default false
);

comment on table mirror.delivery_durations is
'How many orders went from one stage to the next in so many whole hours, by the day (UTC) on which they got there: the '
'sum of the rows.';
comment on column mirror.delivery_durations.is_folded is 'The row is the sum of others. Kept by mirror.fold_delivery_rollups.';

create index delivery_durations_day on mirror.delivery_durations (store_id, day, from_stage, stage, hours) include (orders);
create index delivery_durations_to_fold on mirror.delivery_durations (store_id, day) where not is_folded;

create table mirror.delivery_norms (
    store_id uuid not null references public.stores (id),
    stage public.delivery_stage not null,
    usual_hours integer not null check (usual_hours > 0),
    updated_at timestamptz not null default now(),
    primary key (store_id, stage)
);

comment on table mirror.delivery_norms is
'How long nine orders of ten stay at a stage at the most, over the last 90 days: longer is stuck. Refreshed every hour.';

create table mirror.schedule (
    id uuid primary key default mirror.uuid_v7(),
    job text not null unique,
    command text not null,
    every interval not null check (every >= '1 minute'),
    last_run_at timestamptz,
    last_error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.schedule is
'Work that comes round: done by the daemon, whichever instance, or by pg_cron where it exists.';
comment on column mirror.schedule.command is
'The SQL statement that does it. It runs with the rights of postgres, so that service_role may not change it.';
comment on column mirror.schedule.last_error is 'Why the last run failed; empty when it did not.';

create trigger touch_updated_at before update on mirror.schedule
for each row execute function mirror.touch_updated_at();

insert into mirror.schedule (job, command, every) values
('cleanup_expired_otps', 'select public.cleanup_expired_otps()', '10 minutes'),
('refresh_delivery_norms', 'select mirror.refresh_delivery_norms()', '1 hour'),
('fold_delivery_rollups', 'select mirror.fold_delivery_rollups()', '10 minutes');

-- The outbox: what the engine still has to be told. At most one command of an order waits: a later change of the order replaces
-- what the waiting one says, and takes it out of the hands of whoever is just sending it.

create type mirror.command_state as enum ('pending', 'sent', 'dead');
comment on type mirror.command_state is
'pending: to be sent, now or at available_at. sent: the engine has taken it. dead: the engine refused it; reason says why.';

create table mirror.outbox (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    integration_id uuid not null references mirror.integrations (id),
    order_summary_id uuid not null references public.customer_orders_summary (id) on delete cascade,
    command text not null check (command in ('set_delivery')),
    payload jsonb not null,
    state mirror.command_state not null default 'pending',
    available_at timestamptz not null default now(),
    claimed_by uuid,
    attempts integer not null default 0 check (attempts >= 0),
    reason text,
    settled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint outbox_pending_is_not_settled check ((state = 'pending') = (settled_at is null)),
    constraint outbox_settled_is_not_claimed check (state = 'pending' or claimed_by is null),
    constraint outbox_refusal_has_reason check (state <> 'dead' or reason is not null)
) with (fillfactor = 85);

comment on table mirror.outbox is
'Commands for the engine: an admin''s changes of stage and tracking number. One waits for each order, with the latest values.';
comment on column mirror.outbox.payload is 'For set_delivery: {"stage", "tracking_number"} as they should be in the engine.';
comment on column mirror.outbox.claimed_by is 'Token of the claim that holds the lease; a later change of the order ends it.';

create unique index outbox_one_pending on mirror.outbox (order_summary_id, command) where state = 'pending';
create index outbox_pending on mirror.outbox (available_at, id) where state = 'pending';
create index outbox_order_summary_id on mirror.outbox (order_summary_id);
create index outbox_integration_id on mirror.outbox (integration_id);
create index outbox_store_id on mirror.outbox (store_id);

create trigger touch_updated_at before update on mirror.outbox
for each row execute function mirror.touch_updated_at();

-- Completeness is proved slice by slice: how far a run has come, and a receipt for each slice that it read.

create table mirror.sync_cursors (
    id uuid primary key default mirror.uuid_v7(),
    integration_id uuid not null references mirror.integrations (id),
    entity text not null check (entity in ('customer', 'order')),
    position jsonb not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (integration_id, entity)
);

comment on table mirror.sync_cursors is 'How far the engine has been read: everything before the position is complete.';
comment on column mirror.sync_cursors.position is 'In the engine''s own terms. It moves only past slices whose receipts agree.';

create trigger touch_updated_at before update on mirror.sync_cursors
for each row execute function mirror.touch_updated_at();

create table mirror.sync_receipts (
    id uuid primary key default mirror.uuid_v7(),
    integration_id uuid not null references mirror.integrations (id),
    run_id uuid not null,
    entity text not null check (entity in ('customer', 'order')),
    slice integer not null check (slice >= 0),
    counted integer not null check (counted >= 0),
    written integer not null check (written >= 0),
    unchanged integer not null check (unchanged >= 0),
    tombstoned integer not null check (tombstoned >= 0),
    rejected integer not null check (rejected >= 0),
    content_hash text not null,
    is_complete boolean not null generated always as (counted = written + unchanged and rejected = 0) stored,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (run_id, entity, slice)
);

comment on table mirror.sync_receipts is 'What the engine had in each slice of a run, and what became of it here.';
comment on column mirror.sync_receipts.counted is 'As the engine says.';
comment on column mirror.sync_receipts.tombstoned is 'Known here and gone from the engine''s slice.';
comment on column mirror.sync_receipts.is_complete is 'All that the engine counted is here.';

create index sync_receipts_integration_id on mirror.sync_receipts (integration_id, created_at);

create trigger touch_updated_at before update on mirror.sync_receipts
for each row execute function mirror.touch_updated_at();


alter table public.customer_orders_summary
add column batch_id uuid references public.import_batches (id),
add column joined_batch_at timestamptz,
add column source_delivery_stage public.delivery_stage,
add column source_tracking_number text;

comment on column public.customer_orders_summary.batch_id is
'The import batch the order is in, or was in last. Choose another one, or none, to move the order.';
comment on column public.customer_orders_summary.joined_batch_at is
'When the order first joined a batch: from then on it joins none by itself.';
comment on column public.customer_orders_summary.source_delivery_stage is
'The stage as the engine last told it: what an admin has changed since stands until the engine tells another one.';
comment on column public.customer_orders_summary.source_tracking_number is 'Likewise, the tracking number.';

create index customer_orders_summary_batch_id on public.customer_orders_summary (batch_id);
create index customer_orders_summary_cancelled_in_batch on public.customer_orders_summary (batch_id)
where batch_id is not null and (cancelled_at is not null or deleted_at is not null);
create index customer_orders_summary_unpaid on public.customer_orders_summary (store_id)
where cancelled_at is null and deleted_at is null and total_paid < total_with_tax and delivery_stage > 'ORDER_CONFIRMED';

drop function mirror.record_delivery(uuid, public.commerce_engine, uuid[], jsonb, mirror.stage_columns);

revoke update, delete on public.order_delivery_status_events from service_role;

-- The policies are made anew below: who is a customer is said once, and the phone that a token proves counts, too.
drop policy "customers read themselves" on public.customers;
drop policy "customers read their addresses" on public.customer_addresses;
drop policy "customers read their orders" on public.customer_orders_summary;
drop policy "customers read the items of their orders" on public.customer_order_items;
drop policy "customers read the delivery of their orders" on public.order_delivery_status;
drop policy "customers read the delivery history of their orders" on public.order_delivery_status_events;

create function mirror.current_actor() returns text
language plpgsql stable
set search_path = ''
as $$
declare
    v_claims jsonb := nullif(current_setting('request.jwt.claims', true), '');
begin
    return coalesce(
        nullif(current_setting('mirror.actor', true), ''),
        case
            when session_user = 'authenticator'
                then 'api:' || coalesce(v_claims ->> 'sub', v_claims ->> 'role', current_user)
            when current_setting('application_name') like 'supabase/dashboard%' then 'studio'
            when current_setting('application_name') like 'commerce-mirror%' then 'service'
            else session_user
        end
    );
end
$$;

comment on function mirror.current_actor() is
'Who is changing rows now: engine:vendure, studio, service (the API, the daemon), api:<user>, or a database role. For the '
'record, not for security: all but session_user can be set by whoever is connected.';
revoke execute on function mirror.current_actor() from public;
grant execute on function mirror.current_actor() to service_role;

create function mirror.is_engine() returns boolean
language plpgsql stable
set search_path = ''
as $$
begin
    return coalesce(current_setting('mirror.actor', true), '') like 'engine:%';
end
$$;

comment on function mirror.is_engine() is 'Whether the present change comes from the commerce engine.';
revoke execute on function mirror.is_engine() from public;
grant execute on function mirror.is_engine() to service_role;

create function mirror.act_as(p_actor text) returns text
language plpgsql
set search_path = ''
as $$
declare
    v_before text := coalesce(current_setting('mirror.actor', true), '');
begin
    perform set_config('mirror.actor', p_actor, true);
    return v_before;
end
$$;

comment on function mirror.act_as(text) is 'Sets the actor for the rest of the transaction; returns who it was before.';
revoke execute on function mirror.act_as(text) from public;
grant execute on function mirror.act_as(text) to service_role;

create function mirror.acting_role() returns text
language sql stable
set search_path = ''
as $$
    select coalesce(nullif(current_setting('role'), 'none'), session_user)
$$;

comment on function mirror.acting_role() is
'The database role of whoever is connected, or that PostgREST has taken on for them; not that of a function''s owner.';
revoke execute on function mirror.acting_role() from public;
grant execute on function mirror.acting_role() to service_role;

-- The audit's triggers run with their owner's rights: nobody else may add to mirror.audit_log, or could forge it.

create function mirror.audit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_actor constant text := mirror.current_actor();
    v_role constant text := mirror.acting_role();
begin
    if tg_op = 'INSERT' then
        insert into mirror.audit_log (store_id, actor, database_role, action, table_name, row_id, new_values)
        select
            a.store_id, v_actor, v_role, 'insert', tg_table_name, a.id, to_jsonb(a) - tg_argv
        from after as a;
    elsif tg_op = 'DELETE' then
        insert into mirror.audit_log (store_id, actor, database_role, action, table_name, row_id, old_values)
        select
            b.store_id, v_actor, v_role, 'delete', tg_table_name, b.id, to_jsonb(b) - tg_argv
        from before as b;
    else
        insert into mirror.audit_log (
            store_id, actor, database_role, action, table_name, row_id, old_values, new_values
        )
        select
            r.store_id, v_actor, v_role, 'update', tg_table_name, r.id, changed.old_values, changed.new_values
        from (
            select a.store_id, a.id, to_jsonb(b) - tg_argv as old_row, to_jsonb(a) - tg_argv as new_row
            from after as a
            full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
            offset 0 -- the two are made once, not wherever they are named
        ) as r
        cross join lateral (
            select
                jsonb_object_agg(n.key, r.old_row -> n.key) as old_values, jsonb_object_agg(n.key, n.value) as new_values
            from jsonb_each(r.new_row) as n
            where n.value is distinct from r.old_row -> n.key
        ) as changed
        where r.new_row is distinct from r.old_row;
    end if;
    return null;
end
$$;

comment on function mirror.audit() is
'Trigger: notes in mirror.audit_log who changed which columns of which rows. Its arguments are the columns that are not noted.';
revoke execute on function mirror.audit() from public;

create function mirror.audit_consent() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_actor constant text := mirror.current_actor();
    v_role constant text := mirror.acting_role();
begin
    if tg_op = 'INSERT' then
        insert into mirror.audit_log (store_id, actor, database_role, action, table_name, row_id, new_values)
        select
            a.store_id, v_actor, v_role, 'insert', tg_table_name, a.id,
            jsonb_build_object(
                'marketing_consent', a.marketing_consent, 'phone_verified', a.phone_verified,
                'auth_user_id', a.auth_user_id
            )
        from after as a
        where a.marketing_consent or a.phone_verified or a.auth_user_id is not null;
    else
        insert into mirror.audit_log (
            store_id, actor, database_role, action, table_name, row_id, old_values, new_values
        )
        select
            a.store_id, v_actor, v_role, 'update', tg_table_name, a.id,
            changed.old_values, changed.new_values
        from after as a
        full join before as b using (id)
        cross join lateral (
            select jsonb_object_agg(c.name, c.old_value) as old_values, jsonb_object_agg(c.name, c.new_value) as new_values
            from (
                values
                ('marketing_consent', to_jsonb(b.marketing_consent), to_jsonb(a.marketing_consent)),
                ('phone_verified', to_jsonb(b.phone_verified), to_jsonb(a.phone_verified)),
                ('auth_user_id', to_jsonb(b.auth_user_id), to_jsonb(a.auth_user_id))
            ) as c (name, old_value, new_value)
            where c.old_value is distinct from c.new_value
        ) as changed
        where
            (a.marketing_consent, a.phone_verified, a.auth_user_id)
            is distinct from (b.marketing_consent, b.phone_verified, b.auth_user_id);
    end if;
    return null;
end
$$;

comment on function mirror.audit_consent() is
'Trigger: notes in mirror.audit_log who changed a customer''s consent, or what opens the customer''s data to a user, and nothing '
'else of the customer.';
revoke execute on function mirror.audit_consent() from public;

create function mirror.refuse_change() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    raise exception 'The history in % is not changed or removed.', tg_table_name
    using
        errcode = 'restrict_violation',
        hint = 'Leave it as it is: what happened later is a new row.';
end
$$;

comment on function mirror.refuse_change() is 'Trigger: keeps a table append-only.';
revoke execute on function mirror.refuse_change() from public;

-- Who changes orders, deliveries or batches takes a turn before the first row is locked. Studio changes any of these tables
-- first, and the others follow: a delivery's order, an order's delivery, a batch's orders. No order of row locks suits them all.
-- So daemons, who lock rows in one order, take turns together, and everyone else has a turn alone: nobody waits in a circle.

create function mirror.take_turn(p_together boolean default mirror.is_engine()) returns void
language plpgsql
set search_path = ''
as $$
begin
    if p_together then
        perform pg_advisory_xact_lock_shared(hashtextextended('commerce-mirror: turn', 0));
    else
        perform pg_advisory_xact_lock(hashtextextended('commerce-mirror: turn', 0));
    end if;
end
$$;

comment on function mirror.take_turn(boolean) is
'Waits until orders, deliveries and batches may be changed, to the end of the transaction: daemons together, everyone else '
'alone. Whoever locks one of their rows, or a customer''s with them, calls it first.';
revoke execute on function mirror.take_turn(boolean) from public;
grant execute on function mirror.take_turn(boolean) to service_role;

create function mirror.take_turn_first() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.take_turn();
    return null;
end
$$;

comment on function mirror.take_turn_first() is 'Trigger, before a statement locks its first row: see mirror.take_turn.';
revoke execute on function mirror.take_turn_first() from public;

create function mirror.lock_batches() returns void
language plpgsql
set search_path = ''
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('commerce-mirror: batches', 0));
end
$$;

comment on function mirror.lock_batches() is
'Lets one daemon at a time put orders into batches or take them out, to the end of the transaction: two that count several '
'batches in different orders would wait in a circle.';
revoke execute on function mirror.lock_batches() from public;
grant execute on function mirror.lock_batches() to service_role;

create function mirror.begin_delivery(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_delivery_status (
        store_id, order_summary_id, order_code, stage, tracking_number, updated_by, is_cancelled, confirmed_at
    )
    select
        o.store_id, o.id, o.order_code, o.delivery_stage, o.tracking_number, o.source::text,
        o.cancelled_at is not null or o.deleted_at is not null, o.order_date
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    order by o.source_id
    on conflict (order_summary_id) do nothing;

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, stage, updated_by, actor, source_id, updated_at
    )
    select
        o.store_id, o.id, o.order_code, 'ORDER_CONFIRMED', o.source::text, (select mirror.current_actor()), 'placed',
        o.order_date
    from public.customer_orders_summary as o
    where o.id = any(p_orders)
    on conflict (order_summary_id, source_id) do nothing;
end
$$;

comment on function mirror.begin_delivery(uuid[]) is 'Gives placed orders their delivery status, and the history its beginning.';
revoke execute on function mirror.begin_delivery(uuid[]) from public;
grant execute on function mirror.begin_delivery(uuid[]) to service_role;

create function mirror.lock_orders(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_source_ids text[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform
    from public.customer_orders_summary as o
    where o.store_id = p_store_id and o.source = p_source and o.source_id = any(p_source_ids)
    order by o.source_id
    for no key update;
end
$$;

comment on function mirror.lock_orders(uuid, public.commerce_engine, text[]) is
'Locks these orders in the order of their ids, until the transaction ends: a slice that writes some and then deletes others '
'does so first, as mirror.lock_customers.';
revoke execute on function mirror.lock_orders(uuid, public.commerce_engine, text[]) from public;
grant execute on function mirror.lock_orders(uuid, public.commerce_engine, text[]) to service_role;

create or replace function mirror.upsert_customers(p_integration_id uuid, p_records json) returns integer
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
    v_deleted text[];
    v_written uuid[];
    v_emails text[];
    v_actor text;
    v_was_overtaken boolean;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- Lock what is there in key order, and remember the addresses that may become free.
    select
        coalesce(jsonb_object_agg(known.source_id, known.email), '{}'),
        array_agg(known.source_id) filter (where known.deleted_at is not null)
    into v_known, v_deleted
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
            where e.email is not null
            and (w.email is distinct from (v_known ->> w.source_id) or w.source_id = any(v_deleted))
        ),
        bool_or(w.was_there and not v_known ? w.source_id)
    into v_written, v_emails, v_was_overtaken
    from written as w
    cross join lateral (values (w.email::text), (v_known ->> w.source_id)) as e (email);

    if v_written is null then
        perform mirror.act_as(v_actor);
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
    perform mirror.act_as(v_actor);
    return cardinality(v_written);
end
$$;

comment on function mirror.upsert_customers(uuid, json) is
'Writes customers, each with its whole address book, where they are newer than what is there; returns how many were written. '
'p_records: {"customers": {column: [..]}, "addresses": {column: [..]}} with the columns of mirror.customer_columns and '
'mirror.address_columns; a source_id at most once.';
revoke execute on function mirror.upsert_customers(uuid, json) from public;
grant execute on function mirror.upsert_customers(uuid, json) to service_role;

create or replace function mirror.delete_customers(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions mirror.deletion_columns := json_populate_record(null::mirror.deletion_columns, p_records);
    v_store_id uuid;
    v_source public.commerce_engine;
    v_deleted integer;
    v_emails text[];
    v_actor text;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);

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
    perform mirror.act_as(v_actor);
    return v_deleted;
end
$$;

comment on function mirror.delete_customers(uuid, json) is
'Marks customers deleted where nothing newer is known; returns how many. A customer that was never seen gets a tombstone, '
'so that an older state that arrives later cannot bring it to life. p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_customers(uuid, json) from public;
grant execute on function mirror.delete_customers(uuid, json) to service_role;

create function mirror.refresh_customer_statistics(p_customers uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Locked first, counted in the next statement: whoever waits here sees what the one before has committed.
    perform
    from public.customers as c
    where c.id = any(p_customers)
    order by c.source_id
    for no key update;

    update public.customers as c
    set
        total_orders = s.total_orders,
        total_spent = s.total_spent,
        spent_by_currency = s.spent_by_currency,
        last_order_date = s.last_order_date
    from (
        select
            k.id,
            coalesce(sum(t.orders), 0)::integer as total_orders,
            coalesce(sum(t.spent) filter (where t.currency = st.currency), 0) as total_spent,
            coalesce(jsonb_object_agg(t.currency, t.spent) filter (where t.currency is not null), '{}')
                as spent_by_currency,
            max(t.last_order_date) as last_order_date
        from public.customers as k
        inner join public.stores as st on st.id = k.store_id
        left join lateral (
            select
                o.currency,
                count(*) as orders,
                sum(o.total_with_tax - o.total_refunded) as spent,
                max(o.order_date) as last_order_date
            from public.customer_orders_summary as o
            where
                o.customer_id = k.id and o.order_code is not null
                and o.cancelled_at is null and o.deleted_at is null
            group by o.currency
        ) as t on true
        where k.id = any(p_customers)
        group by k.id, st.currency
    ) as s
    where
        c.id = s.id
        and (c.total_orders, c.total_spent, c.spent_by_currency, c.last_order_date)
        is distinct from (s.total_orders, s.total_spent, s.spent_by_currency, s.last_order_date);
end
$$;

comment on function mirror.refresh_customer_statistics(uuid[]) is
'Counts the orders and the spend of these customers anew. Cancelled and deleted orders do not count; refunds reduce the spend.';
revoke execute on function mirror.refresh_customer_statistics(uuid[]) from public;
grant execute on function mirror.refresh_customer_statistics(uuid[]) to service_role;

create function public.update_customer_statistics(customer_id uuid) returns void
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from public.customers as c where c.id = update_customer_statistics.customer_id) then
        raise exception 'There is no customer with the id %.', update_customer_statistics.customer_id
        using errcode = 'no_data_found', hint = 'Take it from the column id of customers.';
    end if;
    perform mirror.refresh_customer_statistics(array[update_customer_statistics.customer_id]);
end
$$;

comment on function public.update_customer_statistics(uuid) is
'Counts a customer''s orders, spend and last order anew. The mirror does so by itself whenever an order changes.';
revoke execute on function public.update_customer_statistics(uuid) from public;
grant execute on function public.update_customer_statistics(uuid) to service_role;

create or replace function mirror.replace_order_items(
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
    cross join lateral (
        select k.id, k.source_version, k.currency
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each: a planner that does not know the table yet would read all orders of the store
    ) as o
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

create function mirror.stage_times(
    p_order uuid,
    p_stage public.delivery_stage,
    out sourcing_at timestamptz,
    out arrived_at timestamptz,
    out dispatched_at timestamptz,
    out delivered_at timestamptz
)
language sql stable
set search_path = ''
as $$
    select
        max(e.updated_at) filter (where e.stage = 'SOURCING'),
        max(e.updated_at) filter (where e.stage = 'ARRIVED'),
        max(e.updated_at) filter (where e.stage = 'DISPATCHED'),
        max(e.updated_at) filter (where e.stage = 'DELIVERED')
    from public.order_delivery_status_events as e
    where
        e.order_summary_id = p_order and e.from_stage <> e.stage and e.stage <= p_stage
        -- An order that went back has not reached what it went back from.
        and (e.stage = p_stage or not exists (
            select from public.order_delivery_status_events as back
            where
                back.order_summary_id = p_order and back.from_stage <> back.stage
                and back.stage < e.stage and back.updated_at > e.updated_at
        ))
$$;

comment on function mirror.stage_times(uuid, public.delivery_stage) is
'When, by its history, an order that is at p_stage reached the stages up to it.';
revoke execute on function mirror.stage_times(uuid, public.delivery_stage) from public;
grant execute on function mirror.stage_times(uuid, public.delivery_stage) to service_role;

create function mirror.time_stages(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    update public.order_delivery_status as s
    set
        sourcing_at = reached.sourcing_at,
        arrived_at = reached.arrived_at,
        dispatched_at = reached.dispatched_at,
        delivered_at = reached.delivered_at
    from (
        select k.id, t.*
        from public.order_delivery_status as k
        cross join lateral mirror.stage_times(k.order_summary_id, k.stage) as t
        where
            k.order_summary_id = any(p_orders)
            and (k.stage <> 'ORDER_CONFIRMED' or num_nonnulls(k.sourcing_at, k.arrived_at, k.dispatched_at, k.delivered_at) > 0)
    ) as reached
    where
        s.id = reached.id
        and (s.sourcing_at, s.arrived_at, s.dispatched_at, s.delivered_at)
        is distinct from (reached.sourcing_at, reached.arrived_at, reached.dispatched_at, reached.delivered_at);
end
$$;

comment on function mirror.time_stages(uuid[]) is
'Takes from the history when each of these orders reached its stages, up to the present one.';
revoke execute on function mirror.time_stages(uuid[]) from public;
grant execute on function mirror.time_stages(uuid[]) to service_role;

create or replace function mirror.record_delivery(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_told mirror.order_columns,
    p_stages mirror.stage_columns
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_before jsonb;
begin
    -- Where the orders were, as far as their deliveries did not only begin now.
    select coalesce(jsonb_object_agg(s.order_summary_id, s.stage), '{}') into v_before
    from public.order_delivery_status as s
    where s.order_summary_id = any(p_orders) and s.created_at < now();

    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, r.from_stage, r.stage, r.tracking_number, p_source::text,
        (select mirror.current_actor()), r.source_id, r.changed_at
    from unnest(
        p_stages.order_source_id, p_stages.source_id, p_stages.from_stage, p_stages.stage,
        p_stages.tracking_number, p_stages.changed_at
    ) as r (order_source_id, source_id, from_stage, stage, tracking_number, changed_at)
    cross join lateral (
        select k.id, k.store_id, k.order_code
        from public.customer_orders_summary as k
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.order_source_id
        offset 0 -- one look-up each: a planner that does not know the table yet would read all orders of the store
    ) as o
    where o.id = any(p_orders)
    on conflict (order_summary_id, source_id) do nothing;

    -- What an admin has set stands until the engine tells something else than it told before, stage and number each for itself.
    with told as (
        select
            o.id, r.stage, r.tracking_number,
            o.source_delivery_stage is distinct from r.stage as has_new_stage,
            o.source_tracking_number is distinct from r.tracking_number as has_new_number
        from unnest(p_told.source_id, p_told.delivery_stage, p_told.tracking_number)
            as r (source_id, stage, tracking_number)
        cross join lateral (
            select k.id, k.source_delivery_stage, k.source_tracking_number
            from public.customer_orders_summary as k
            where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
            offset 0
        ) as o
        where
            o.id = any(p_orders)
            and (o.source_delivery_stage, o.source_tracking_number) is distinct from (r.stage, r.tracking_number)
    ), noted as (
        update public.customer_orders_summary as o
        set source_delivery_stage = told.stage, source_tracking_number = told.tracking_number
        from told
        where o.id = told.id
    )
    update public.order_delivery_status as s
    set
        stage = case when told.has_new_stage then told.stage else s.stage end,
        tracking_number = case when told.has_new_number then told.tracking_number else s.tracking_number end,
        note = null,
        updated_by = p_source::text
    from told
    where
        s.order_summary_id = told.id
        and (
            told.has_new_stage and s.stage <> told.stage
            or told.has_new_number and s.tracking_number is distinct from told.tracking_number
        );

    update public.order_delivery_status as s
    set carrier = r.carrier
    from unnest(p_told.source_id, p_told.carrier) as r (source_id, carrier)
    cross join lateral (
        select d.id, k.id as order_summary_id, d.carrier
        from public.customer_orders_summary as k
        inner join public.order_delivery_status as d on d.order_summary_id = k.id
        where k.store_id = p_store_id and k.source = p_source and k.source_id = r.source_id
        offset 0
    ) as known
    where
        known.order_summary_id = any(p_orders) and known.carrier is distinct from r.carrier and s.id = known.id;

    -- An engine that keeps no history of its own: the reading is when we learned of the stage.
    insert into public.order_delivery_status_events (
        store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor, source_id,
        updated_at
    )
    select
        o.store_id, o.id, o.order_code, coalesce((v_before ->> o.id::text)::public.delivery_stage, latest.stage),
        o.source_delivery_stage, o.source_tracking_number, p_source::text, (select mirror.current_actor()),
        'read ' || to_char(o.source_version at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        o.source_version
    from public.customer_orders_summary as o
    cross join lateral (
        select e.stage
        from public.order_delivery_status_events as e
        where e.order_summary_id = o.id and e.updated_by = p_source::text
        order by e.updated_at desc, e.stage desc
        limit 1
    ) as latest
    where o.id = any(p_orders) and latest.stage <> o.source_delivery_stage;

    perform mirror.time_stages(p_orders);
end
$$;

comment on function mirror.record_delivery(uuid, public.commerce_engine, uuid[], mirror.order_columns, mirror.stage_columns) is
'Brings delivery status and its history up to what the engine tells of the orders p_orders: part of upsert_orders.';
revoke execute on function mirror.record_delivery(
    uuid, public.commerce_engine, uuid[], mirror.order_columns, mirror.stage_columns
) from public;
grant execute on function mirror.record_delivery(
    uuid, public.commerce_engine, uuid[], mirror.order_columns, mirror.stage_columns
) to service_role;

create or replace function mirror.upsert_orders(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_orders mirror.order_columns
        := json_populate_record(null::mirror.order_columns, p_records -> 'orders');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_written uuid[];
    v_actor text;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

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
            billing_address, contact_name, contact_phone, contact_email, custom_fields, cancelled_at,
            source_delivery_stage, source_tracking_number
        )
        select
            v_store_id, v_source, r.source_id, r.source_version, c.id, r.order_code, r.order_state, r.order_date,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.payment_method, r.currency,
            r.sub_total, r.shipping, r.tax, r.discount, r.total, r.total_with_tax, r.total_paid,
            r.total_refunded, mirror.text_array(r.coupon_codes), r.shipping_method, r.shipping_address,
            r.billing_address, r.contact_name, r.contact_phone,
            coalesce(lower(r.contact_email), c.email),
            coalesce(r.custom_fields, '{}'), r.cancelled_at,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number
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
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    perform mirror.replace_order_items(
        v_store_id, v_source, v_written,
        json_populate_record(null::mirror.item_columns, p_records -> 'items')
    );
    perform mirror.record_delivery(
        v_store_id, v_source, v_written,
        v_orders,
        json_populate_record(null::mirror.stage_columns, p_records -> 'stages')
    );
    perform mirror.batch_pre_orders(v_written);
    perform mirror.act_as(v_actor);
    return cardinality(v_written);
end
$$;

comment on function mirror.upsert_orders(uuid, json) is
'Writes placed orders with all their lines and delivery history where they are newer than what is there; returns how many were '
'written. p_records: {"orders": {column: [..]}, "items": {..}, "stages": {..}} with the columns of mirror.order_columns, '
'mirror.item_columns and mirror.stage_columns; a source_id at most once.';
revoke execute on function mirror.upsert_orders(uuid, json) from public;
grant execute on function mirror.upsert_orders(uuid, json) to service_role;

create or replace function mirror.delete_orders(p_integration_id uuid, p_records json) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions mirror.deletion_columns := json_populate_record(null::mirror.deletion_columns, p_records);
    v_deleted integer;
    v_actor text;
begin
    select mirror.act_as('engine:' || i.engine) into v_actor
    from mirror.integrations as i
    where i.id = p_integration_id;

    insert into public.customer_orders_summary as o (store_id, source, source_id, source_version, deleted_at)
    select i.store_id, i.engine, r.source_id, '-infinity', r.source_version
    from mirror.integrations as i
    cross join unnest(v_deletions.source_id, v_deletions.source_version) as r (source_id, source_version)
    where i.id = p_integration_id
    order by r.source_id
    on conflict (store_id, source, source_id) do update set deleted_at = excluded.deleted_at
    where o.source_version < excluded.deleted_at and coalesce(o.deleted_at < excluded.deleted_at, true);
    get diagnostics v_deleted = row_count;
    perform mirror.act_as(v_actor);
    return v_deleted;
end
$$;

comment on function mirror.delete_orders(uuid, json) is
'Marks orders deleted where nothing newer is known; returns how many. An order that was never seen gets a tombstone. '
'p_records: the columns of mirror.deletion_columns.';
revoke execute on function mirror.delete_orders(uuid, json) from public;
grant execute on function mirror.delete_orders(uuid, json) to service_role;

create or replace function mirror.apply_events(p_claim uuid, p_records json, p_settlements json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_records json;
    v_integration_id uuid;
    v_customers integer := 0;
    v_orders integer := 0;
begin
    perform mirror.take_turn(p_together => true);
    for v_records in select value from json_array_elements(p_records) loop
        v_integration_id := v_records ->> 'integration_id';
        perform mirror.lock_customers(i.store_id, i.engine, array(
            select json_array_elements_text(v_records #> '{customers,source_id}')
            union
            select json_array_elements_text(v_records #> '{deleted_customers,source_id}')
            union
            select json_array_elements_text(v_records #> '{orders,customer_source_id}')
            union
            select c.source_id
            from public.customer_orders_summary as o
            inner join public.customers as c on c.id = o.customer_id
            where o.store_id = i.store_id and o.source = i.engine and o.source_id in (
                select json_array_elements_text(v_records #> '{orders,source_id}')
                union all
                select json_array_elements_text(v_records #> '{deleted_orders,source_id}')
            )
        ))
        from mirror.integrations as i
        where i.id = v_integration_id;
        if json_array_length(v_records #> '{deleted_orders,source_id}') > 0 then
            perform mirror.lock_orders(i.store_id, i.engine, array(
                select json_array_elements_text(v_records #> '{orders,source_id}')
                union
                select json_array_elements_text(v_records #> '{deleted_orders,source_id}')
            ))
            from mirror.integrations as i
            where i.id = v_integration_id;
        end if;
        v_customers := v_customers
            + mirror.upsert_customers(v_integration_id, v_records)
            + mirror.delete_customers(v_integration_id, v_records -> 'deleted_customers');
        -- Deletions first: the code of a deleted order may be another's by now.
        v_orders := v_orders + mirror.delete_orders(v_integration_id, v_records -> 'deleted_orders');
        v_orders := v_orders + mirror.upsert_orders(v_integration_id, v_records);
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

create function mirror.batch_stage(p_status public.batch_status) returns public.delivery_stage
language sql immutable parallel safe
set search_path = ''
as $$
    select (
        case p_status
            when 'orderedFromSupplier' then 'SOURCING'
            when 'inTransit' then 'SOURCING'
            when 'arrived' then 'ARRIVED'
            when 'dispatched' then 'DISPATCHED'
            when 'completed' then 'DELIVERED'
            else 'ORDER_CONFIRMED'
        end
    )::public.delivery_stage
$$;

comment on function mirror.batch_stage(public.batch_status) is
'The stage that the orders of a batch have at least, by the batch''s status.';
revoke execute on function mirror.batch_stage(public.batch_status) from public;
grant execute on function mirror.batch_stage(public.batch_status) to service_role;

create function mirror.move_batch_orders(p_batches uuid[], p_orders uuid[] default null) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform set_config('mirror.names_itself', 'yes', true);
    update public.order_delivery_status as s
    set stage = mirror.batch_stage(b.status), note = null, updated_by = 'batch ' || b.batch_number
    from public.order_batch_assignments as a
    inner join public.import_batches as b on b.id = a.batch_id
    where
        a.batch_id = any(p_batches) and a.order_summary_id = s.order_summary_id
        and (p_orders is null or a.order_summary_id = any(p_orders))
        and not s.is_cancelled and s.stage < mirror.batch_stage(b.status);
    perform set_config('mirror.names_itself', '', true);
end
$$;

comment on function mirror.move_batch_orders(uuid[], uuid[]) is
'Moves the orders of these batches (only p_orders, if given) on to the stage of their batch: never backwards, and never a '
'cancelled order.';
revoke execute on function mirror.move_batch_orders(uuid[], uuid[]) from public;
grant execute on function mirror.move_batch_orders(uuid[], uuid[]) to service_role;

create function mirror.recount_batches(p_batches uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Locked first, counted in the next statement: whoever counts last has seen all that was committed.
    perform
    from public.import_batches as b
    where b.id = any(p_batches)
    order by b.id
    for no key update;

    update public.import_batches as b
    set order_count = counted.orders
    from (
        select k.id, count(o.id) as orders
        from public.import_batches as k
        left join public.order_batch_assignments as a on a.batch_id = k.id
        left join public.customer_orders_summary as o
            on o.id = a.order_summary_id and o.cancelled_at is null and o.deleted_at is null
        where k.id = any(p_batches)
        group by k.id
    ) as counted
    where b.id = counted.id and b.order_count <> counted.orders;
end
$$;

comment on function mirror.recount_batches(uuid[]) is 'Counts the orders of these batches anew, without cancelled ones.';
revoke execute on function mirror.recount_batches(uuid[]) from public;
grant execute on function mirror.recount_batches(uuid[]) to service_role;

create function mirror.open_batch(p_store_id uuid, p_target integer) returns void
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.lock_batches();
    if not exists (
        select from public.import_batches as b
        where b.store_id = p_store_id and b.status = 'collecting' and not b.is_ready
    ) then
        insert into public.import_batches (store_id, batch_number, target_order_count)
        values (p_store_id, mirror.next_batch_number(p_store_id), p_target);
    end if;
end
$$;

comment on function mirror.open_batch(uuid, integer) is 'Opens a collecting batch for a store that has none.';
revoke execute on function mirror.open_batch(uuid, integer) from public;
grant execute on function mirror.open_batch(uuid, integer) to service_role;

create function mirror.join_open_batch(p_store_id uuid, p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_waiting uuid[] := p_orders;
    v_batch public.import_batches;
    v_room integer;
begin
    perform mirror.lock_batches();
    while cardinality(v_waiting) > 0 loop
        select b.* into v_batch
        from public.import_batches as b
        where b.store_id = p_store_id and b.status = 'collecting' and not b.is_ready
        order by b.id
        limit 1
        for no key update;
        if not found then
            perform mirror.open_batch(p_store_id, s.batch_target_order_count)
            from public.stores as s
            where s.id = p_store_id;
            continue;
        end if;

        v_room := greatest(coalesce(v_batch.target_order_count - v_batch.order_count, cardinality(v_waiting)), 1);
        insert into public.order_batch_assignments (store_id, order_summary_id, batch_id)
        select p_store_id, w.id, v_batch.id
        from unnest(v_waiting[:v_room]) as w (id);
        v_waiting := v_waiting[v_room + 1:];
    end loop;
end
$$;

comment on function mirror.join_open_batch(uuid, uuid[]) is
'Puts orders into the store''s open batch, the next one when it is full, a new one when there is none.';
revoke execute on function mirror.join_open_batch(uuid, uuid[]) from public;
grant execute on function mirror.join_open_batch(uuid, uuid[]) to service_role;

create function mirror.batch_pre_orders(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_store_id uuid;
    v_waiting uuid[];
begin
    for v_store_id, v_waiting in
        select o.store_id, array_agg(o.id order by o.order_date, o.id)
        from public.customer_orders_summary as o
        inner join public.stores as s on s.id = o.store_id
        where
            o.id = any(p_orders) and o.order_code is not null and o.joined_batch_at is null
            and o.cancelled_at is null and o.deleted_at is null and o.delivery_stage = 'ORDER_CONFIRMED'
            and (
                s.batches_all_orders or exists (
                    select from public.customer_order_items as i
                    where i.order_summary_id = o.id and i.is_pre_order and i.quantity > 0
                )
            )
        group by o.store_id
    loop
        perform mirror.join_open_batch(v_store_id, v_waiting);
    end loop;
end
$$;

comment on function mirror.batch_pre_orders(uuid[]) is
'Puts those of these orders into a batch that wait for one: pre-orders that have never been in a batch, and that are still at '
'ORDER_CONFIRMED: an order from before the mirror that is on its way already was bought without a batch.';
revoke execute on function mirror.batch_pre_orders(uuid[]) from public;
grant execute on function mirror.batch_pre_orders(uuid[]) to service_role;

create function mirror.guard_batch() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_op = 'DELETE' then
        if exists (select from public.order_batch_assignments as a where a.batch_id = old.id) then
            raise exception 'Batch % has orders in it and cannot be deleted.', old.batch_number
            using errcode = 'restrict_violation', hint = 'Move its orders into another batch first, or complete it.';
        elsif exists (select from public.supplier_purchase_lists as l where l.batch_id = old.id) then
            raise exception 'Batch % has purchase lists and cannot be deleted.', old.batch_number
            using errcode = 'restrict_violation', hint = 'It is part of the shop''s history: complete it instead.';
        end if;
        return old;
    end if;

    if tg_op = 'INSERT' then
        new.order_count := 0;
        new.is_ready := false;
    elsif new.store_id <> old.store_id then
        raise exception 'Batch % stays with its store.', old.batch_number
        using errcode = 'check_violation', hint = 'Open a batch for the other store.';
    elsif new.status < old.status then
        raise exception 'Batch % is % already and cannot go back to %.', old.batch_number, old.status, new.status
        using
            errcode = 'check_violation',
            hint = 'A batch moves forward only. Orders that are not that far can be moved into another batch.';
    elsif new.order_count <> old.order_count and pg_trigger_depth() < 2 then
        raise exception 'order_count is counted by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'It follows the rows of order_batch_assignments.';
    elsif new.is_ready <> old.is_ready then
        raise exception 'is_ready is kept by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'A collecting batch is ready when order_count reaches target_order_count.';
    end if;

    new.is_ready := new.status = 'collecting' and coalesce(new.order_count >= new.target_order_count, false);
    if tg_op = 'INSERT' or new.status > old.status then
        -- A time that an admin has entered stands.
        new.ordered_at := coalesce(new.ordered_at, case new.status when 'orderedFromSupplier' then now() end);
        new.in_transit_at := coalesce(new.in_transit_at, case new.status when 'inTransit' then now() end);
        new.arrived_at := coalesce(new.arrived_at, case new.status when 'arrived' then now() end);
        new.dispatched_at := coalesce(new.dispatched_at, case new.status when 'dispatched' then now() end);
        new.completed_at := coalesce(new.completed_at, case new.status when 'completed' then now() end);
    end if;
    return new;
end
$$;

comment on function mirror.guard_batch() is 'Trigger: the rules of a batch, in words that an admin reads.';
revoke execute on function mirror.guard_batch() from public;

create function mirror.follow_batch() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.is_ready and not old.is_ready then
        perform mirror.open_batch(new.store_id, coalesce(s.batch_target_order_count, new.target_order_count))
        from public.stores as s
        where s.id = new.store_id;
    end if;
    if new.status <> old.status then
        perform mirror.move_batch_orders(array[new.id]);
        if new.status = 'completed' then
            update public.order_batch_assignments
            set is_open = false
            where batch_id = new.id and is_open;
        end if;
    end if;
    return null;
end
$$;

comment on function mirror.follow_batch() is
'Trigger: what follows from a batch''s change. A full one opens the next; a status moves the orders'' stages.';
revoke execute on function mirror.follow_batch() from public;

create function mirror.guard_assignment() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_order public.customer_orders_summary;
    v_batch public.import_batches;
    v_taken_by text;
begin
    if tg_op <> 'INSERT' and not old.is_open then
        select b.* into v_batch from public.import_batches as b where b.id = old.batch_id;
        raise exception 'Batch % is completed: its orders stay in it.', v_batch.batch_number
        using
            errcode = 'restrict_violation',
            hint = 'To buy the order again, put it into an open batch as well: a new row of order_batch_assignments, '
                'or the order''s batch_id.';
    elsif tg_op = 'DELETE' then
        return old;
    elsif tg_op = 'UPDATE' and new.order_summary_id <> old.order_summary_id then
        raise exception 'A row of order_batch_assignments stays with its order.'
        using errcode = 'check_violation', hint = 'Change its batch_id, or delete it and add one for the other order.';
    elsif tg_op = 'UPDATE' and new.is_open <> old.is_open and pg_trigger_depth() < 2 then
        raise exception 'is_open is kept by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'Complete the batch, and its rows close; delete a row to pull its order out.';
    end if;

    select b.* into v_batch from public.import_batches as b where b.id = new.batch_id for no key update;
    select o.* into v_order from public.customer_orders_summary as o where o.id = new.order_summary_id;
    if v_batch.id is null or v_order.id is null then
        return new; -- the foreign keys say it
    elsif v_batch.store_id <> v_order.store_id then
        raise exception 'Order % and batch % belong to different stores.', v_order.order_code, v_batch.batch_number
        using errcode = 'check_violation', hint = 'Choose a batch of the order''s store.';
    elsif v_batch.status = 'completed' and (tg_op = 'INSERT' or new.batch_id <> old.batch_id) then
        raise exception 'Batch % is completed and takes no more orders.', v_batch.batch_number
        using errcode = 'check_violation', hint = 'Choose a batch that is not completed.';
    elsif tg_op = 'INSERT' and (v_order.cancelled_at is not null or v_order.deleted_at is not null) then
        raise exception 'Order % is cancelled and cannot join a batch.', v_order.order_code
        using errcode = 'check_violation', hint = 'Choose an order that is not cancelled.';
    elsif tg_op = 'INSERT' then
        select b.batch_number into v_taken_by
        from public.order_batch_assignments as a
        inner join public.import_batches as b on b.id = a.batch_id
        where a.order_summary_id = new.order_summary_id and a.is_open;
        if found then
            raise exception 'Order % is in batch % already.', v_order.order_code, v_taken_by
            using
                errcode = 'unique_violation',
                hint = 'Change batch_id in its row of order_batch_assignments, or in the order itself, to move it.';
        end if;
    end if;

    new.store_id := v_order.store_id;
    new.vendure_order_id := v_order.vendure_order_id;
    if tg_op = 'INSERT' then
        new.is_open := true;
    end if;
    if tg_op = 'INSERT' or new.batch_id <> old.batch_id then
        new.assigned_by := mirror.current_actor();
    end if;
    return new;
end
$$;

comment on function mirror.guard_assignment() is 'Trigger: the rules of an order in a batch, in words that an admin reads.';
revoke execute on function mirror.guard_assignment() from public;

create function mirror.follow_assignments(p_orders uuid[], p_batches uuid[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    if p_orders is null then
        return;
    end if;
    update public.customer_orders_summary as o
    set batch_id = latest.batch_id, joined_batch_at = coalesce(o.joined_batch_at, now())
    from (
        select k.id, (
            select a.batch_id
            from public.order_batch_assignments as a
            where a.order_summary_id = k.id
            order by a.is_open desc, a.id desc
            limit 1
        ) as batch_id
        from unnest(p_orders) as k (id)
    ) as latest
    where o.id = latest.id and (o.batch_id is distinct from latest.batch_id or o.joined_batch_at is null);
    perform mirror.recount_batches(p_batches);
    perform mirror.move_batch_orders(p_batches, p_orders);
end
$$;

comment on function mirror.follow_assignments(uuid[], uuid[]) is
'What follows from orders joining or leaving batches: the orders'' batch_id, the batches'' counts, the orders'' stages.';
revoke execute on function mirror.follow_assignments(uuid[], uuid[]) from public;
grant execute on function mirror.follow_assignments(uuid[], uuid[]) to service_role;

create function mirror.follow_new_assignments() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.follow_assignments(array_agg(a.order_summary_id), array_agg(distinct a.batch_id)) from after as a;
    return null;
end
$$;

comment on function mirror.follow_new_assignments() is 'Trigger: see mirror.follow_assignments.';
revoke execute on function mirror.follow_new_assignments() from public;

create function mirror.follow_moved_assignments() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.follow_assignments(
        array_agg(distinct a.order_summary_id), array_agg(distinct b.batch_id) || array_agg(distinct a.batch_id)
    )
    from after as a
    full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
    where a.batch_id is distinct from b.batch_id;
    return null;
end
$$;

comment on function mirror.follow_moved_assignments() is 'Trigger: see mirror.follow_assignments.';
revoke execute on function mirror.follow_moved_assignments() from public;

create function mirror.follow_ended_assignments() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.follow_assignments(array_agg(b.order_summary_id), array_agg(distinct b.batch_id)) from before as b;
    return null;
end
$$;

comment on function mirror.follow_ended_assignments() is 'Trigger: see mirror.follow_assignments.';
revoke execute on function mirror.follow_ended_assignments() from public;

create function mirror.guard_delivery() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if mirror.is_engine() then
        return new; -- the engine is right about its own orders; record_delivery keeps the times
    elsif (new.order_summary_id, new.order_code, new.store_id)
    is distinct from (old.order_summary_id, old.order_code, old.store_id) then
        raise exception 'The delivery of order % stays with its order.', old.order_code
        using errcode = 'check_violation', hint = 'Change the row of the other order.';
    elsif pg_trigger_depth() < 2
    and (new.is_cancelled, new.confirmed_at, new.sourcing_at, new.arrived_at, new.dispatched_at, new.delivered_at)
    is distinct from
    (old.is_cancelled, old.confirmed_at, old.sourcing_at, old.arrived_at, old.dispatched_at, old.delivered_at) then
        raise exception 'is_cancelled and the times of the stages are kept by the mirror and cannot be edited.'
        using errcode = 'check_violation', hint = 'Change the stage; an order is cancelled in the shop.';
    end if;

    new.tracking_number := nullif(trim(new.tracking_number), '');
    if new.stage <> old.stage then
        if new.is_cancelled then
            raise exception 'Order % is cancelled: its delivery does not move.', old.order_code
            using errcode = 'check_violation', hint = 'If it is delivered all the same, place a new order in the shop.';
        elsif new.stage < old.stage and coalesce(current_setting('mirror.may_go_back', true), '') <> 'yes' then
            raise exception 'Order % is % already and cannot go back to %.', old.order_code, old.stage, new.stage
            using
                errcode = 'check_violation',
                hint = format(
                    'If that was a mistake, correct it in the SQL editor: '
                    'select correct_order_delivery_status(%L, %L, ''why'', ''your name'');',
                    old.order_code, new.stage
                );
        end if;
        select t.sourcing_at, t.arrived_at, t.dispatched_at, t.delivered_at
        into new.sourcing_at, new.arrived_at, new.dispatched_at, new.delivered_at
        from mirror.stage_times(new.order_summary_id, new.stage) as t;
        -- By the clock, not by the transaction's beginning: who waited for the row comes later.
        case new.stage
            when 'SOURCING' then new.sourcing_at := clock_timestamp();
            when 'ARRIVED' then new.arrived_at := clock_timestamp();
            when 'DISPATCHED' then new.dispatched_at := clock_timestamp();
            when 'DELIVERED' then new.delivered_at := clock_timestamp();
            else null; -- ORDER_CONFIRMED is when the order was placed
        end case;
    end if;
    -- Who and why belong to one change. Cells that are saved together come one by one: what this transaction has set stands.
    if old.updated_at < now() and coalesce(current_setting('mirror.names_itself', true), '') <> 'yes' then
        if new.stage <> old.stage and new.note is not distinct from old.note then
            new.note := null;
        end if;
        if new.updated_by = old.updated_by then
            new.updated_by := mirror.current_actor();
        end if;
    end if;
    return new;
end
$$;

comment on function mirror.guard_delivery() is 'Trigger: the rules of a delivery, in words that an admin reads.';
revoke execute on function mirror.guard_delivery() from public;

create function mirror.guard_delivery_end() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if exists (select from public.customer_orders_summary as o where o.id = old.order_summary_id) then
        raise exception 'The delivery of order % cannot be deleted.', old.order_code
        using errcode = 'restrict_violation', hint = 'Every order has one: change its stage, or cancel the order in the shop.';
    end if;
    return old;
end
$$;

comment on function mirror.guard_delivery_end() is 'Trigger: a delivery ends with its order only.';
revoke execute on function mirror.guard_delivery_end() from public;

create function mirror.follow_delivery() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not mirror.is_engine() then
        insert into public.order_delivery_status_events (
            store_id, order_summary_id, order_code, from_stage, stage, tracking_number, note, updated_by, actor,
            source_id, updated_at
        )
        select
            a.store_id, a.order_summary_id, a.order_code, b.stage, a.stage, a.tracking_number, a.note, a.updated_by,
            mirror.current_actor(), mirror.uuid_v7()::text,
            case when a.stage <> b.stage and a.stage > 'ORDER_CONFIRMED' then a.stage_since else clock_timestamp() end
        from after as a
        full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
        where
            a.stage <> b.stage or a.tracking_number is distinct from b.tracking_number
            or (a.note is distinct from b.note and a.note is not null);

        insert into mirror.outbox as c (store_id, integration_id, order_summary_id, command, payload)
        select distinct on (a.order_summary_id)
            a.store_id, i.id, a.order_summary_id, 'set_delivery',
            jsonb_build_object('stage', a.stage, 'tracking_number', a.tracking_number)
        from (
            select a.*
            from after as a
            full join before as b using (id)
            where a.stage <> b.stage or a.tracking_number is distinct from b.tracking_number
            offset 0 -- what follows would make another join of the full one
        ) as a
        inner join public.customer_orders_summary as o on o.id = a.order_summary_id
        inner join mirror.integrations as i on i.store_id = o.store_id and i.engine = o.source and i.is_active
        order by a.order_summary_id, i.id
        on conflict (order_summary_id, command) where state = 'pending' do update set
            payload = excluded.payload,
            available_at = now(),
            claimed_by = null,
            attempts = 0,
            reason = null;
    end if;

    update public.customer_orders_summary as o
    set delivery_stage = a.stage, tracking_number = a.tracking_number
    from after as a
    where
        o.id = a.order_summary_id
        and (o.delivery_stage, o.tracking_number) is distinct from (a.stage, a.tracking_number);
    return null;
end
$$;

comment on function mirror.follow_delivery() is
'Trigger: a change of a delivery goes into the history and into the order; an admin''s, to the engine, too.';
revoke execute on function mirror.follow_delivery() from public;

create function mirror.require_tracking_number() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if exists (
        select from public.order_delivery_status as s
        inner join public.stores as st on st.id = s.store_id
        where
            s.id = new.id and st.requires_tracking_number and s.stage >= 'DISPATCHED'
            and s.tracking_number is null and not s.is_cancelled
            and s.updated_by <> all(enum_range(null::public.commerce_engine)::text[])
    ) then
        raise exception 'Order % has no tracking number yet and cannot be %.', new.order_code, new.stage
        using
            errcode = 'check_violation',
            hint = 'Enter its tracking_number first, or switch off requires_tracking_number in stores.';
    end if;
    return null;
end
$$;

comment on function mirror.require_tracking_number() is
'Trigger, at the end of the transaction, so that stage and number may come in any order: DISPATCHED needs a tracking number '
'where the store says so.';
revoke execute on function mirror.require_tracking_number() from public;

create function public.update_order_delivery_status(
    order_code text,
    stage public.delivery_stage,
    tracking_number text default null,
    note text default null,
    updated_by text default null
) returns public.order_delivery_status
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    v_code constant text := update_order_delivery_status.order_code;
    v_stage constant public.delivery_stage := update_order_delivery_status.stage;
    v_tracking_number constant text := nullif(trim(update_order_delivery_status.tracking_number), '');
    v_note constant text := nullif(trim(update_order_delivery_status.note), '');
    v_updated_by constant text := coalesce(update_order_delivery_status.updated_by, mirror.current_actor());
    v_found public.order_delivery_status[];
    v_status public.order_delivery_status;
begin
    perform mirror.take_turn(); -- before the row is locked
    v_found := array(
        select s
        from public.order_delivery_status as s
        inner join public.customer_orders_summary as o on o.id = s.order_summary_id
        where s.order_code = v_code and (
            o.deleted_at is null or not exists (
                select from public.customer_orders_summary as live
                where live.store_id = o.store_id and live.order_code = v_code and live.deleted_at is null
            )
        )
        for no key update of s
    );
    if cardinality(v_found) <> 1 then
        raise exception 'There % with the code %.',
            case cardinality(v_found) when 0 then 'is no order' else 'are orders of several stores' end, v_code
        using
            errcode = 'no_data_found',
            hint = 'Take the code from customer_orders_summary.order_code, or edit the row of order_delivery_status.';
    end if;

    perform set_config('mirror.names_itself', 'yes', true);
    update public.order_delivery_status as s
    set
        stage = v_stage,
        tracking_number = coalesce(v_tracking_number, s.tracking_number),
        note = case when s.stage <> v_stage then v_note else coalesce(v_note, s.note) end,
        updated_by = v_updated_by
    where
        s.id = (v_found[1]).id
        and (
            s.stage <> v_stage
            or s.tracking_number is distinct from coalesce(v_tracking_number, s.tracking_number)
            or s.note is distinct from coalesce(v_note, s.note)
        );
    perform set_config('mirror.names_itself', '', true);
    select s.* into strict v_status from public.order_delivery_status as s where s.id = (v_found[1]).id;
    return v_status;
end
$$;

comment on function public.update_order_delivery_status(text, public.delivery_stage, text, text, text) is
'Moves an order on to a stage, with its tracking number and a note, and writes the history. Never backwards: for that there is '
'correct_order_delivery_status. The same call twice changes nothing.';
revoke execute on function public.update_order_delivery_status(text, public.delivery_stage, text, text, text) from public;
grant execute on function public.update_order_delivery_status(text, public.delivery_stage, text, text, text) to service_role;

create function public.correct_order_delivery_status(
    order_code text,
    stage public.delivery_stage,
    note text,
    updated_by text default null
) returns public.order_delivery_status
language plpgsql
set search_path = ''
as $$
declare
    v_status public.order_delivery_status;
begin
    perform set_config('mirror.may_go_back', 'yes', true);
    v_status := public.update_order_delivery_status(
        correct_order_delivery_status.order_code, correct_order_delivery_status.stage, null,
        correct_order_delivery_status.note, correct_order_delivery_status.updated_by
    );
    perform set_config('mirror.may_go_back', '', true);
    return v_status;
end
$$;

comment on function public.correct_order_delivery_status(text, public.delivery_stage, text, text) is
'Sets an order''s stage, backwards too, where it was moved by mistake. The history keeps both.';
revoke execute on function public.correct_order_delivery_status(text, public.delivery_stage, text, text) from public;
grant execute on function public.correct_order_delivery_status(text, public.delivery_stage, text, text) to service_role;

create function mirror.guard_order() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from public.order_batch_assignments as a where a.order_summary_id = old.id)
    and not exists (select from public.order_delivery_status_events as e where e.order_summary_id = old.id) then
        return old;
    end if;
    raise exception 'Order % has a history and cannot be deleted.', old.order_code
    using errcode = 'restrict_violation', hint = 'Cancel it in the shop: the mirror follows.';
end
$$;

comment on function mirror.guard_order() is 'Trigger: an order that has a history is not deleted.';
revoke execute on function mirror.guard_order() from public;

create function mirror.follow_new_orders() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if exists (select from after as a where a.order_code is not null) then
        perform mirror.begin_delivery(array_agg(a.id)) from after as a where a.order_code is not null;
        perform mirror.refresh_customer_statistics(array_agg(distinct a.customer_id))
        from after as a
        where a.customer_id is not null;
    end if;
    return null;
end
$$;

comment on function mirror.follow_new_orders() is
'Trigger: a placed order gets its delivery status, and counts for its customer.';
revoke execute on function mirror.follow_new_orders() from public;

create function mirror.follow_changed_orders() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_placed uuid[];
    v_customers uuid[];
    v_ended uuid[];
    v_moved uuid[];
    v_rebatched uuid[];
begin
    -- A full join, though the rows are the same on both sides: only then is it hashed. A plan that was made when one order changed
    -- would compare each row with each when five hundred do.
    select
        array_agg(a.id) filter (where a.order_code is not null and b.order_code is null),
        array_agg(array[a.customer_id, b.customer_id]) filter (
            where (
                a.customer_id, a.order_code, a.currency, a.total_with_tax, a.total_refunded, a.order_date,
                a.cancelled_at is null, a.deleted_at is null
            ) is distinct from (
                b.customer_id, b.order_code, b.currency, b.total_with_tax, b.total_refunded, b.order_date,
                b.cancelled_at is null, b.deleted_at is null
            )
        ),
        array_agg(a.id) filter (
            where (a.cancelled_at is null and a.deleted_at is null)
            is distinct from (b.cancelled_at is null and b.deleted_at is null)
        ),
        array_agg(a.id) filter (
            where (a.delivery_stage, a.tracking_number) is distinct from (b.delivery_stage, b.tracking_number)
        ),
        array_agg(a.id) filter (where a.batch_id is distinct from b.batch_id)
    into v_placed, v_customers, v_ended, v_moved, v_rebatched
    from after as a
    full join before as b using (id);

    if v_placed is not null then -- the row was a tombstone
        perform mirror.begin_delivery(v_placed);
    end if;
    if v_customers is not null then
        perform mirror.refresh_customer_statistics(v_customers);
    end if;
    if v_ended is not null then
        perform mirror.follow_cancellations(v_ended);
    end if;
    if v_moved is not null then
        update public.order_delivery_status as s
        set stage = a.delivery_stage, tracking_number = a.tracking_number
        from after as a
        where
            a.id = any(v_moved) and s.order_summary_id = a.id
            and (s.stage, s.tracking_number) is distinct from (a.delivery_stage, a.tracking_number);
    end if;
    if v_rebatched is not null then
        perform mirror.move_to_batch(a.id, a.batch_id) from after as a where a.id = any(v_rebatched);
    end if;
    return null;
end
$$;

comment on function mirror.follow_changed_orders() is
'Trigger: what follows from a change of orders, for their customers, deliveries and batches.';
revoke execute on function mirror.follow_changed_orders() from public;

create function mirror.follow_cancellations(p_orders uuid[]) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_batches uuid[];
begin
    update public.order_delivery_status as s
    set is_cancelled = not s.is_cancelled
    from public.customer_orders_summary as o
    where
        o.id = any(p_orders) and s.order_summary_id = o.id
        and s.is_cancelled <> (o.cancelled_at is not null or o.deleted_at is not null);
    v_batches := array(
        select distinct a.batch_id from public.order_batch_assignments as a where a.order_summary_id = any(p_orders)
    );
    if cardinality(v_batches) > 0 then
        perform mirror.lock_batches();
        perform mirror.recount_batches(v_batches);
    end if;
end
$$;

comment on function mirror.follow_cancellations(uuid[]) is
'Brings deliveries and batches up to the cancelling, deleting or reviving of these orders.';
revoke execute on function mirror.follow_cancellations(uuid[]) from public;
grant execute on function mirror.follow_cancellations(uuid[]) to service_role;

create function mirror.move_to_batch(p_order uuid, p_batch uuid) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_open public.order_batch_assignments;
begin
    select a.* into v_open from public.order_batch_assignments as a where a.order_summary_id = p_order and a.is_open;
    if v_open.batch_id is not distinct from p_batch then
        if p_batch is null then
            -- The order was in completed batches only: to take it out of them is refused there.
            delete from public.order_batch_assignments where order_summary_id = p_order;
        end if;
        return;
    elsif p_batch is null then
        delete from public.order_batch_assignments where id = v_open.id;
    elsif v_open.id is not null then
        update public.order_batch_assignments set batch_id = p_batch where id = v_open.id;
    elsif not exists (
        select from public.order_batch_assignments as a where a.order_summary_id = p_order and a.batch_id = p_batch
    ) then
        insert into public.order_batch_assignments (order_summary_id, batch_id) values (p_order, p_batch);
    end if;
end
$$;

comment on function mirror.move_to_batch(uuid, uuid) is
'Puts an order into a batch, another batch, or none: what choosing a batch in the order''s row means.';
revoke execute on function mirror.move_to_batch(uuid, uuid) from public;
grant execute on function mirror.move_to_batch(uuid, uuid) to service_role;

create function mirror.roll_up_deliveries(
    p_before public.order_delivery_status[],
    p_after public.order_delivery_status[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into mirror.delivery_stage_counts (store_id, stage, orders)
    select r.store_id, r.stage, sum(r.weight)
    from (
        select b.store_id, b.stage, -1 as weight
        from unnest(p_before) as b
        where not b.is_cancelled
        union all
        select a.store_id, a.stage, 1
        from unnest(p_after) as a
        where not a.is_cancelled
    ) as r
    group by r.store_id, r.stage
    having sum(r.weight) <> 0;

    insert into mirror.delivery_durations (store_id, day, from_stage, stage, hours, orders)
    select d.store_id, d.day, d.from_stage, d.stage, d.hours, sum(d.weight)
    from (
        select b.*, -1 as weight from mirror.delivery_steps(p_before) as b
        union all
        select a.*, 1 from mirror.delivery_steps(p_after) as a
    ) as d
    group by d.store_id, d.day, d.from_stage, d.stage, d.hours
    having sum(d.weight) <> 0;
end
$$;

comment on function mirror.roll_up_deliveries(public.order_delivery_status[], public.order_delivery_status[]) is
'Takes deliveries as they were before a change out of what the statistics read, and adds them as they are after it.';
revoke execute on function mirror.roll_up_deliveries(public.order_delivery_status[], public.order_delivery_status[]) from public;
grant execute on function mirror.roll_up_deliveries(
    public.order_delivery_status[], public.order_delivery_status[]
) to service_role;

create function mirror.delivery_steps(p_rows public.order_delivery_status[])
returns table (
    store_id uuid,
    day date,
    from_stage public.delivery_stage,
    stage public.delivery_stage,
    hours integer
)
language sql stable
set search_path = ''
as $$
    select
        r.store_id, (step.reached_at at time zone 'utc')::date, step.from_stage, step.stage,
        greatest(0, floor(extract(epoch from step.reached_at - step.from_at) / 3600))::integer
    from unnest(p_rows) as r
    cross join lateral (
        select
            s.stage, s.reached_at,
            lag(s.stage) over (order by s.stage) as from_stage,
            lag(s.reached_at) over (order by s.stage) as from_at
        from (
            values
            ('ORDER_CONFIRMED'::public.delivery_stage, r.confirmed_at),
            ('SOURCING', r.sourcing_at),
            ('ARRIVED', r.arrived_at),
            ('DISPATCHED', r.dispatched_at),
            ('DELIVERED', r.delivered_at)
        ) as s (stage, reached_at)
        where s.reached_at is not null
    ) as step
    where not r.is_cancelled and r.stage <> 'ORDER_CONFIRMED' and step.from_stage is not null
$$;

comment on function mirror.delivery_steps(public.order_delivery_status[]) is
'The steps from stage to stage that these deliveries have made, each with its day (UTC) and the whole hours that it took.';
revoke execute on function mirror.delivery_steps(public.order_delivery_status[]) from public;
grant execute on function mirror.delivery_steps(public.order_delivery_status[]) to service_role;

create function mirror.fold_delivery_rollups() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_folded integer;
begin
    -- What is added meanwhile is not seen here, and stays as it is until the next time.
    with taken as (
        delete from mirror.delivery_stage_counts
        returning store_id, stage, orders
    )
    insert into mirror.delivery_stage_counts (store_id, stage, orders)
    select t.store_id, t.stage, sum(t.orders)
    from taken as t
    group by t.store_id, t.stage
    having sum(t.orders) <> 0;

    with days as materialized (
        select distinct d.store_id, d.day
        from mirror.delivery_durations as d
        where not d.is_folded
    ), taken as (
        delete from mirror.delivery_durations as d
        using days
        where d.store_id = days.store_id and d.day = days.day
        returning d.store_id, d.day, d.from_stage, d.stage, d.hours, d.orders
    )
    insert into mirror.delivery_durations (store_id, day, from_stage, stage, hours, orders, is_folded)
    select t.store_id, t.day, t.from_stage, t.stage, t.hours, sum(t.orders), true
    from taken as t
    group by t.store_id, t.day, t.from_stage, t.stage, t.hours
    having sum(t.orders) <> 0;
    get diagnostics v_folded = row_count;
    return v_folded;
end
$$;

comment on function mirror.fold_delivery_rollups() is
'Makes one row of many in what the delivery statistics read, and returns how many rows it wrote: the sums stay the same, and '
'reading them stays fast.';
revoke execute on function mirror.fold_delivery_rollups() from public;
grant execute on function mirror.fold_delivery_rollups() to service_role;

create function mirror.roll_up_new_deliveries() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.roll_up_deliveries('{}', array(select row(a.*)::public.order_delivery_status from after as a));
    return null;
end
$$;

comment on function mirror.roll_up_new_deliveries() is 'Trigger: see mirror.roll_up_deliveries.';
revoke execute on function mirror.roll_up_new_deliveries() from public;

create function mirror.roll_up_changed_deliveries() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_before public.order_delivery_status[];
    v_after public.order_delivery_status[];
begin
    select
        array_agg(row(b.*)::public.order_delivery_status),
        array_agg(row(a.*)::public.order_delivery_status)
    into v_before, v_after
    from after as a
    full join before as b using (id) -- so that it is hashed: see mirror.follow_changed_orders
    where
        (a.store_id, a.stage, a.is_cancelled, a.confirmed_at, a.sourcing_at, a.arrived_at, a.dispatched_at, a.delivered_at)
        is distinct from
        (b.store_id, b.stage, b.is_cancelled, b.confirmed_at, b.sourcing_at, b.arrived_at, b.dispatched_at, b.delivered_at);
    if v_after is not null then
        perform mirror.roll_up_deliveries(v_before, v_after);
    end if;
    return null;
end
$$;

comment on function mirror.roll_up_changed_deliveries() is 'Trigger: see mirror.roll_up_deliveries.';
revoke execute on function mirror.roll_up_changed_deliveries() from public;

create function mirror.roll_up_ended_deliveries() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform mirror.roll_up_deliveries(array(select row(b.*)::public.order_delivery_status from before as b), '{}');
    return null;
end
$$;

comment on function mirror.roll_up_ended_deliveries() is 'Trigger: see mirror.roll_up_deliveries.';
revoke execute on function mirror.roll_up_ended_deliveries() from public;

create function public.get_batch_statistics(batch_uuid uuid)
returns table (
    batch_number text,
    status public.batch_status,
    total_orders integer,
    total_items bigint,
    revenue jsonb,
    orders_by_stage jsonb,
    completion_percentage numeric,
    target_order_count integer,
    progress_percentage numeric,
    age_days numeric,
    unpaid_orders bigint,
    cancelled_orders bigint
)
language plpgsql stable
set search_path = ''
as $$
#variable_conflict use_column
begin
    return query
    with members as materialized (
        select
            o.id, o.currency, o.total_with_tax, o.total_refunded, o.delivery_stage,
            o.total_paid < o.total_with_tax as is_unpaid,
            o.cancelled_at is null and o.deleted_at is null as is_active
        from public.order_batch_assignments as a
        inner join public.customer_orders_summary as o on o.id = a.order_summary_id
        where a.batch_id = batch_uuid
    ), totals as (
        select
            count(*) filter (where m.is_active) as orders,
            count(*) filter (where m.is_active and m.delivery_stage = 'DELIVERED') as delivered,
            count(*) filter (where m.is_active and m.is_unpaid) as unpaid,
            count(*) filter (where not m.is_active) as cancelled
        from members as m
    )
    select
        b.batch_number, b.status, t.orders::integer,
        coalesce((
            select sum(i.quantity)
            from members as m
            inner join public.customer_order_items as i on i.order_summary_id = m.id
            where m.is_active
        ), 0)::bigint,
        coalesce((
            select jsonb_object_agg(r.currency, r.amount)
            from (
                select m.currency, sum(m.total_with_tax - m.total_refunded) as amount
                from members as m
                where m.is_active
                group by m.currency
            ) as r
        ), '{}'),
        (
            select jsonb_object_agg(s.stage, coalesce(c.orders, 0))
            from unnest(enum_range(null::public.delivery_stage)) as s (stage)
            left join (
                select m.delivery_stage, count(*) as orders
                from members as m
                where m.is_active
                group by m.delivery_stage
            ) as c on c.delivery_stage = s.stage
        ),
        round(coalesce(100.0 * t.delivered / nullif(t.orders, 0), 0), 1),
        b.target_order_count,
        round(100.0 * t.orders / b.target_order_count, 1),
        round(extract(epoch from coalesce(b.completed_at, now()) - b.created_at) / 86400, 1),
        t.unpaid, t.cancelled
    from public.import_batches as b
    cross join totals as t
    where b.id = batch_uuid;
    if not found then
        raise exception 'There is no batch with the id %.', batch_uuid
        using errcode = 'no_data_found', hint = 'Take it from the column id of import_batches.';
    end if;
end
$$;

comment on function public.get_batch_statistics(uuid) is
'A batch in figures: orders, items, revenue by currency (less refunds), orders by stage, how many per cent are delivered, '
'progress to its target, age in days, unpaid and cancelled orders. Cancelled orders count nowhere else.';
revoke execute on function public.get_batch_statistics(uuid) from public;
grant execute on function public.get_batch_statistics(uuid) to service_role;

create function mirror.percentile_hours(p_hours integer[], p_orders bigint[], p_fraction double precision) returns integer
language sql immutable parallel safe
set search_path = ''
as $$
    select min(h.hours)
    from (
        select t.hours, sum(t.orders) over (order by t.hours) as so_far, sum(t.orders) over () as total
        from unnest(p_hours, p_orders) as t (hours, orders)
    ) as h
    where h.total > 0 and h.so_far >= p_fraction * h.total
$$;

comment on function mirror.percentile_hours(integer[], bigint[], double precision) is
'The percentile (discrete) of a histogram: p_orders[i] orders took p_hours[i] hours.';
revoke execute on function mirror.percentile_hours(integer[], bigint[], double precision) from public;
grant execute on function mirror.percentile_hours(integer[], bigint[], double precision) to service_role;

create function mirror.delivery_statistics(p_store_id uuid, p_from timestamptz, p_to timestamptz)
returns table (
    orders_by_stage jsonb,
    median_hours jsonb,
    p90_hours jsonb,
    deliveries_per_day jsonb,
    stuck_orders bigint
)
language plpgsql stable
set search_path = ''
as $$
begin
    return query
    with durations as materialized (
        select d.day, d.from_stage, d.stage, d.hours, d.orders
        from mirror.delivery_durations as d
        where
            d.store_id = p_store_id
            and d.day between (p_from at time zone 'utc')::date and (p_to at time zone 'utc')::date
    ), steps as materialized (
        select
            s.from_stage || ' → ' || s.stage as step,
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.5) as median,
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.9) as p90
        from (
            select d.from_stage, d.stage, d.hours, sum(d.orders) as orders
            from durations as d
            group by d.from_stage, d.stage, d.hours
            having sum(d.orders) > 0
        ) as s
        group by s.from_stage, s.stage
    )
    select
        (
            select jsonb_object_agg(s.stage, coalesce(c.orders, 0))
            from unnest(enum_range(null::public.delivery_stage)) as s (stage)
            left join (
                select t.stage, sum(t.orders) as orders
                from mirror.delivery_stage_counts as t
                where t.store_id = p_store_id
                group by t.stage
            ) as c on c.stage = s.stage
        ),
        coalesce((select jsonb_object_agg(s.step, s.median) from steps as s), '{}'),
        coalesce((select jsonb_object_agg(s.step, s.p90) from steps as s), '{}'),
        coalesce((
            select jsonb_object_agg(per_day.day, per_day.orders)
            from (
                select d.day, sum(d.orders) as orders
                from durations as d
                where d.stage = 'DELIVERED'
                group by d.day
                having sum(d.orders) > 0
            ) as per_day
        ), '{}'),
        (
            select count(*)
            from mirror.stuck_deliveries as k
            where k.store_id = p_store_id
        );
end
$$;

comment on function mirror.delivery_statistics(uuid, timestamptz, timestamptz) is
'As public.get_delivery_statistics, of any store.';
revoke execute on function mirror.delivery_statistics(uuid, timestamptz, timestamptz) from public;
grant execute on function mirror.delivery_statistics(uuid, timestamptz, timestamptz) to service_role;

create function public.get_delivery_statistics(
    "from" timestamptz default now() - interval '90 days',
    "to" timestamptz default now()
)
returns table (
    orders_by_stage jsonb,
    median_hours jsonb,
    p90_hours jsonb,
    deliveries_per_day jsonb,
    stuck_orders bigint
)
language plpgsql stable
set search_path = ''
as $$
begin
    return query select * from mirror.delivery_statistics(mirror.default_store_id(), "from", "to");
end
$$;

comment on function public.get_delivery_statistics(timestamptz, timestamptz) is
'How deliveries go: orders by stage now; the median and the 90th percentile, in whole hours, of the time between stages, and '
'deliveries per day, over the days (UTC) from "from" to "to"; and how many orders are stuck longer than usual. Of the default '
'store.';
revoke execute on function public.get_delivery_statistics(timestamptz, timestamptz) from public;
grant execute on function public.get_delivery_statistics(timestamptz, timestamptz) to service_role;

create function mirror.refresh_delivery_norms() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_norms integer;
begin
    insert into mirror.delivery_norms as n (store_id, stage, usual_hours)
    select d.store_id, d.from_stage, greatest(1, mirror.percentile_hours(array_agg(d.hours), array_agg(d.orders), 0.9))
    from (
        select t.store_id, t.from_stage, t.hours, sum(t.orders)::bigint as orders
        from mirror.delivery_durations as t
        where t.day > (now() at time zone 'utc')::date - 90
        group by t.store_id, t.from_stage, t.hours
        having sum(t.orders) > 0
    ) as d
    group by d.store_id, d.from_stage
    on conflict (store_id, stage) do update set usual_hours = excluded.usual_hours, updated_at = now();
    get diagnostics v_norms = row_count;
    return v_norms;
end
$$;

comment on function mirror.refresh_delivery_norms() is
'Learns from the last 90 days how long orders usually stay at each stage; returns how many norms it set.';
revoke execute on function mirror.refresh_delivery_norms() from public;
grant execute on function mirror.refresh_delivery_norms() to service_role;

create function public.export_supplier_purchase_list(batch_uuid uuid) returns setof public.supplier_purchase_lists
language plpgsql
set search_path = ''
as $$
declare
    v_store_id uuid;
    v_export integer;
begin
    select b.store_id into v_store_id from public.import_batches as b where b.id = batch_uuid for no key update;
    if not found then
        raise exception 'There is no batch with the id %.', batch_uuid
        using errcode = 'no_data_found', hint = 'Take it from the column id of import_batches.';
    end if;
    select coalesce(max(l.export_number), 0) + 1 into v_export
    from public.supplier_purchase_lists as l
    where l.batch_id = batch_uuid;

    return query
    with wanted as (
        select
            i.sku, (array_agg(i.product_name order by i.id desc))[1] as product_name,
            (array_agg(i.variant_name order by i.id desc))[1] as variant_name,
            i.patch_enabled, i.patch_type, i.print_name, i.print_number,
            sum(i.quantity)::integer as quantity, array_agg(i.id order by i.id) as items
        from public.order_batch_assignments as a
        inner join public.customer_orders_summary as o on o.id = a.order_summary_id
        inner join public.customer_order_items as i on i.order_summary_id = o.id
        where a.batch_id = batch_uuid and o.cancelled_at is null and o.deleted_at is null and i.quantity > 0
        -- What has no SKU is told apart by its names.
        group by
            i.sku, i.patch_enabled, i.patch_type, i.print_name, i.print_number,
            case when i.sku is null then row(i.product_name, i.variant_name)::text end
    ), listed as (
        select *
        from public.supplier_purchase_lists as l
        where l.batch_id = batch_uuid and l.export_number = v_export - 1 and l.quantity > 0
    )
    insert into public.supplier_purchase_lists (
        store_id, batch_id, export_number, variant_sku, product_name, variant_name, patch_enabled, patch_type,
        print_name, print_number, quantity, previous_quantity, change, source_item_ids
    )
    select
        v_store_id, batch_uuid, v_export,
        coalesce(w.sku, l.variant_sku), coalesce(w.product_name, l.product_name),
        coalesce(w.variant_name, l.variant_name), coalesce(w.patch_enabled, l.patch_enabled),
        coalesce(w.patch_type, l.patch_type), coalesce(w.print_name, l.print_name),
        coalesce(w.print_number, l.print_number), coalesce(w.quantity, 0), coalesce(l.quantity, 0),
        case
            when l.id is null then 'new'
            when w.quantity is null then 'removed'
            when w.quantity <> l.quantity then 'changed'
            else 'unchanged'
        end::public.purchase_change,
        coalesce(w.items, '{}')
    from wanted as w
    full join listed as l
        on row(
            w.sku, case when w.sku is null then row(w.product_name, w.variant_name)::text end,
            w.patch_enabled, w.patch_type, w.print_name, w.print_number
        )::text
        = row(
            l.variant_sku, case when l.variant_sku is null then row(l.product_name, l.variant_name)::text end,
            l.patch_enabled, l.patch_type, l.print_name, l.print_number
        )::text
    order by 5, 6, 4
    returning *;
end
$$;

comment on function public.export_supplier_purchase_list(uuid) is
'Writes what to buy for a batch into supplier_purchase_lists, as its next export, and returns it: a row for each article with '
'its patch and print, with the order items it came from and what changed since the export before.';
revoke execute on function public.export_supplier_purchase_list(uuid) from public;
grant execute on function public.export_supplier_purchase_list(uuid) to service_role;

create function public.cleanup_expired_otps() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deleted integer;
begin
    delete from public.otp_sessions where expires_at < now();
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function public.cleanup_expired_otps() is
'Deletes the OTP sessions that have expired; returns how many. Runs by itself every ten minutes.';
revoke execute on function public.cleanup_expired_otps() from public;
grant execute on function public.cleanup_expired_otps() to service_role;

create function mirror.run_schedule() returns table (job text, error text)
language plpgsql
set search_path = ''
as $$
declare
    v_job mirror.schedule;
    v_error text;
begin
    -- A job that another instance has in hand is locked: it is done there. One that was done meanwhile is no longer due.
    for v_job in
        select * from mirror.schedule as s
        where s.last_run_at is null or s.last_run_at + s.every <= now()
        order by s.job
        for update skip locked
    loop
        v_error := null;
        begin
            execute v_job.command;
        exception when others then
            v_error := sqlerrm;
        end;
        update mirror.schedule as s set last_run_at = now(), last_error = v_error where s.id = v_job.id;
        return query select v_job.job, v_error;
    end loop;
end
$$;

comment on function mirror.run_schedule() is
'Does the scheduled work that is due, each job once whoever calls, and returns which, with the error of what failed: that is '
'also in mirror.schedule.last_error. A failed job undoes only itself, and is tried again when it is due next.';
revoke execute on function mirror.run_schedule() from public;
grant execute on function mirror.run_schedule() to service_role;

-- Before a statement locks the first row: see mirror.take_turn.

create trigger take_turn before insert or update or delete on public.import_batches
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.order_batch_assignments
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.customer_orders_summary
for each statement execute function mirror.take_turn_first();
create trigger take_turn before insert or update or delete on public.order_delivery_status
for each statement execute function mirror.take_turn_first();

create view mirror.stuck_deliveries
with (security_invoker = true)
as
select s.id, s.store_id, s.order_summary_id, s.order_code, s.stage, s.stage_since, s.tracking_number, h.hours as usual_hours
from (
    select st.id as store_id, stages.stage, coalesce(n.usual_hours, 14 * 24) as hours
    from public.stores as st
    cross join unnest(enum_range(null::public.delivery_stage)) as stages (stage)
    left join mirror.delivery_norms as n on st.id = n.store_id and stages.stage = n.stage
    where stages.stage <> 'DELIVERED'
) as h
inner join public.order_delivery_status as s
    on h.store_id = s.store_id and h.stage = s.stage and s.stage_since < now() - make_interval(hours => h.hours)
where s.stage <> 'DELIVERED' and not s.is_cancelled;

comment on view mirror.stuck_deliveries is
'Orders that have been at their stage for longer than nine of ten usually are; 14 days where nothing is known yet.';

create view public.order_tracking
with (security_invoker = true)
as
select
    o.id,
    o.store_id,
    o.vendure_order_id,
    o.order_code,
    s.tracking_number,
    s.carrier,
    s.updated_at,
    case
        when s.stage = 'ORDER_CONFIRMED' and o.total_paid < o.total_with_tax then 'pending'
        when s.stage = 'ORDER_CONFIRMED' then 'confirmed'
        when s.stage in ('SOURCING', 'ARRIVED') then 'processing'
        when s.stage = 'DISPATCHED' then 'shipped'
        else 'delivered'
    end as status
from public.customer_orders_summary as o
inner join public.order_delivery_status as s on o.id = s.order_summary_id
where o.deleted_at is null;

comment on view public.order_tracking is
'Where orders are, in the words of the shop''s earlier tracking: pending, confirmed, processing, shipped, delivered.';

create view public.orders_needing_attention
with (security_invoker = true)
as
select
    o.id, o.store_id, o.order_code, 'cancelled in batch' as reason, coalesce(o.cancelled_at, o.deleted_at) as since, o.batch_id,
    o.delivery_stage
from public.import_batches as b
inner join public.customer_orders_summary as o on b.id = o.batch_id
where b.status <> 'completed' and o.batch_id is not null and (o.cancelled_at is not null or o.deleted_at is not null)
union all
select o.id, o.store_id, o.order_code, 'unpaid', o.order_date, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.customer_orders_summary as o on st.id = o.store_id
where
    o.cancelled_at is null and o.deleted_at is null and o.total_paid < o.total_with_tax
    and o.delivery_stage > 'ORDER_CONFIRMED'
    and (o.delivery_stage = 'DELIVERED' or o.payment_method is null or o.payment_method <> all(st.pay_on_delivery_methods))
union all
select o.id, o.store_id, o.order_code, 'no tracking number', s.stage_since, o.batch_id, o.delivery_stage
from public.stores as st
inner join public.order_delivery_status as s on st.id = s.store_id
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
where
    s.stage = 'DISPATCHED' and not s.is_cancelled and s.tracking_number is null
    and (o.total_paid >= o.total_with_tax or o.payment_method = any(st.pay_on_delivery_methods))
union all
select o.id, o.store_id, o.order_code, 'stuck', s.stage_since, o.batch_id, o.delivery_stage
from mirror.stuck_deliveries as s
inner join public.customer_orders_summary as o on s.order_summary_id = o.id
inner join public.stores as st on s.store_id = st.id
where
    (s.stage <> 'DISPATCHED' or s.tracking_number is not null)
    and (
        o.total_paid >= o.total_with_tax or o.delivery_stage = 'ORDER_CONFIRMED'
        or o.payment_method = any(st.pay_on_delivery_methods)
    );

comment on view public.orders_needing_attention is
'Orders that somebody should look at, each once, with the most pressing reason: cancelled in batch, unpaid (though on its way), '
'no tracking number (though dispatched), stuck (longer at its stage than usual).';

-- What the triggers will keep from here on, for the rows that are there. Nobody has changed these rows: updated_at stays.

alter table public.customers disable trigger touch_updated_at;
alter table public.customer_orders_summary disable trigger touch_updated_at;
alter table public.order_delivery_status disable trigger touch_updated_at;

update public.customer_orders_summary
set source_delivery_stage = delivery_stage, source_tracking_number = tracking_number
where order_code is not null;

update public.order_delivery_status as s
set
    confirmed_at = o.order_date,
    is_cancelled = o.cancelled_at is not null or o.deleted_at is not null
from public.customer_orders_summary as o
where o.id = s.order_summary_id;

update public.order_delivery_status_events
set actor = 'engine:' || updated_by
where updated_by in (select unnest(enum_range(null::public.commerce_engine))::text);

do $$
declare
    v_ids uuid[];
    v_last uuid := '00000000-0000-0000-0000-000000000000';
begin
    loop
        select array_agg(slice.order_summary_id), max(slice.order_summary_id::text)::uuid into v_ids, v_last
        from (
            select s.order_summary_id
            from public.order_delivery_status as s
            where s.order_summary_id > v_last
            order by s.order_summary_id
            limit 10000
        ) as slice;
        exit when v_ids is null;
        perform mirror.time_stages(v_ids);
        perform mirror.roll_up_deliveries(
            '{}', array(select s from public.order_delivery_status as s where s.order_summary_id = any(v_ids))
        );
    end loop;

    v_last := '00000000-0000-0000-0000-000000000000';
    loop
        select array_agg(slice.id), max(slice.id::text)::uuid into v_ids, v_last
        from (
            select c.id
            from public.customers as c
            where c.id > v_last
            order by c.id
            limit 10000
        ) as slice;
        exit when v_ids is null;
        perform mirror.refresh_customer_statistics(v_ids);
    end loop;
end
$$;

alter table public.customers enable trigger touch_updated_at;
alter table public.customer_orders_summary enable trigger touch_updated_at;
alter table public.order_delivery_status enable trigger touch_updated_at;

-- What happens by itself, in the transaction of whoever changes a row. Statement triggers, so that a slice is one step.

create trigger guard before insert or update or delete on public.import_batches
for each row execute function mirror.guard_batch();
create trigger follow after update on public.import_batches
for each row execute function mirror.follow_batch();
create trigger audit_insert after insert on public.import_batches
referencing new table as after
for each statement execute function mirror.audit('updated_at', 'order_count', 'is_ready');
create trigger audit_update after update on public.import_batches
referencing old table as before new table as after
for each statement execute function mirror.audit('updated_at', 'order_count', 'is_ready');
create trigger audit_delete after delete on public.import_batches
referencing old table as before
for each statement execute function mirror.audit('updated_at', 'order_count', 'is_ready');

create trigger guard before insert or update or delete on public.order_batch_assignments
for each row execute function mirror.guard_assignment();
create trigger follow_insert after insert on public.order_batch_assignments
referencing new table as after
for each statement execute function mirror.follow_new_assignments();
create trigger follow_update after update on public.order_batch_assignments
referencing old table as before new table as after
for each statement execute function mirror.follow_moved_assignments();
create trigger follow_delete after delete on public.order_batch_assignments
referencing old table as before
for each statement execute function mirror.follow_ended_assignments();
create trigger audit_insert after insert on public.order_batch_assignments
referencing new table as after
for each statement execute function mirror.audit('updated_at');
create trigger audit_update after update on public.order_batch_assignments
referencing old table as before new table as after
for each statement execute function mirror.audit('updated_at');
create trigger audit_delete after delete on public.order_batch_assignments
referencing old table as before
for each statement execute function mirror.audit('updated_at');

create trigger guard before delete on public.customer_orders_summary
for each row execute function mirror.guard_order();
create trigger follow_insert after insert on public.customer_orders_summary
referencing new table as after
for each statement execute function mirror.follow_new_orders();
create trigger follow_update after update on public.customer_orders_summary
referencing old table as before new table as after
for each statement execute function mirror.follow_changed_orders();

create trigger guard before update on public.order_delivery_status
for each row execute function mirror.guard_delivery();
create trigger guard_end before delete on public.order_delivery_status
for each row execute function mirror.guard_delivery_end();
create trigger follow after update on public.order_delivery_status
referencing old table as before new table as after
for each statement execute function mirror.follow_delivery();
create trigger roll_up_insert after insert on public.order_delivery_status
referencing new table as after
for each statement execute function mirror.roll_up_new_deliveries();
create trigger roll_up_update after update on public.order_delivery_status
referencing old table as before new table as after
for each statement execute function mirror.roll_up_changed_deliveries();
create trigger roll_up_delete after delete on public.order_delivery_status
referencing old table as before
for each statement execute function mirror.roll_up_ended_deliveries();
create trigger audit_update after update on public.order_delivery_status
referencing old table as before new table as after
for each statement execute function mirror.audit(
    'updated_at', 'stage_since', 'confirmed_at', 'sourcing_at', 'arrived_at', 'dispatched_at', 'delivered_at'
);
create trigger audit_delete after delete on public.order_delivery_status
referencing old table as before
for each statement execute function mirror.audit(
    'updated_at', 'stage_since', 'confirmed_at', 'sourcing_at', 'arrived_at', 'dispatched_at', 'delivered_at'
);
create constraint trigger require_tracking_number after update on public.order_delivery_status
deferrable initially deferred
for each row
when (new.stage >= 'DISPATCHED' and new.stage is distinct from old.stage)
execute function mirror.require_tracking_number();

create trigger append_only before update or delete on public.order_delivery_status_events
for each row execute function mirror.refuse_change();
create trigger append_only before update or delete on public.supplier_purchase_lists
for each row execute function mirror.refuse_change();
create trigger append_only_truncate before truncate on public.order_delivery_status_events
for each statement execute function mirror.refuse_change();

create trigger audit_insert after insert on public.customers
referencing new table as after
for each statement execute function mirror.audit_consent();
create trigger audit_update after update on public.customers
referencing old table as before new table as after
for each statement execute function mirror.audit_consent();

create trigger append_only before update or delete on mirror.audit_log
for each row execute function mirror.refuse_change();
create trigger append_only_truncate before truncate on mirror.audit_log
for each statement execute function mirror.refuse_change();

-- Who may do what.

alter table public.import_batches enable row level security;

alter table public.import_batches force row level security;

alter table public.order_batch_assignments enable row level security;

alter table public.order_batch_assignments force row level security;

alter table public.supplier_purchase_lists enable row level security;

alter table public.supplier_purchase_lists force row level security;

alter table public.otp_sessions enable row level security;

alter table public.otp_sessions force row level security;

alter table mirror.batch_numbers enable row level security;

alter table mirror.batch_numbers force row level security;

alter table mirror.audit_log enable row level security;

alter table mirror.audit_log force row level security;

alter table mirror.delivery_stage_counts enable row level security;

alter table mirror.delivery_stage_counts force row level security;

alter table mirror.delivery_durations enable row level security;

alter table mirror.delivery_durations force row level security;

alter table mirror.delivery_norms enable row level security;

alter table mirror.delivery_norms force row level security;

alter table mirror.outbox enable row level security;

alter table mirror.outbox force row level security;

alter table mirror.sync_cursors enable row level security;

alter table mirror.sync_cursors force row level security;

alter table mirror.sync_receipts enable row level security;

alter table mirror.sync_receipts force row level security;

alter table mirror.schedule enable row level security;

alter table mirror.schedule force row level security;

create policy "customers read themselves" on public.customers
for select to authenticated
using (
    -- The one rule of who is whose customer; the other policies ask this one, for what they select here is under it, too.
    -- Both claims are at a token's top level, where users cannot put anything: docs/access.md.
    deleted_at is null
    and (
        auth_user_id = (select auth.uid())
        or (
            phone_verified
            and store_id = ((select auth.jwt()) ->> 'mirror_store')::uuid
            and phone_number = ((select auth.jwt()) ->> 'mirror_phone')
        )
    )
);

create policy "customers read their addresses" on public.customer_addresses
for select to authenticated
-- The array is read once, before the table, and looked up in its index; `in (select …)` would read the whole table.
using (customer_id = any(array(select c.id from public.customers as c)));

create policy "customers read their orders" on public.customer_orders_summary
for select to authenticated
using (customer_id = any(array(select c.id from public.customers as c)) and deleted_at is null);

create policy "customers read the items of their orders" on public.customer_order_items
for select to authenticated
using (order_summary_id = any(array(select o.id from public.customer_orders_summary as o)));

create policy "customers read the delivery of their orders" on public.order_delivery_status
for select to authenticated
using (order_summary_id = any(array(select o.id from public.customer_orders_summary as o)));

create policy "customers read the delivery history of their orders" on public.order_delivery_status_events
for select to authenticated
using (order_summary_id = any(array(select o.id from public.customer_orders_summary as o)));

grant select, insert, update, delete on
public.stores,
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
mirror.integrations,
mirror.webhook_events
to service_role;

revoke all on
public.import_batches,
public.order_batch_assignments,
public.supplier_purchase_lists,
public.otp_sessions,
public.order_tracking,
public.orders_needing_attention
from public, anon, authenticated, service_role;

grant select on public.order_tracking to authenticated;

grant select, insert, update, delete on
public.import_batches,
public.order_batch_assignments,
public.supplier_purchase_lists,
public.otp_sessions,
mirror.batch_numbers,
mirror.delivery_stage_counts,
mirror.delivery_durations,
mirror.delivery_norms,
mirror.outbox,
mirror.sync_cursors,
mirror.sync_receipts
to service_role;

grant select on public.order_tracking, public.orders_needing_attention, mirror.stuck_deliveries to service_role;

grant select, insert on public.order_delivery_status_events to service_role;

grant select on mirror.audit_log to service_role;

grant select, update (last_run_at, last_error) on mirror.schedule to service_role;

-- What Supabase brings and a plain Postgres lacks: used where it exists, and not missed where it does not.

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table public.order_delivery_status;
    end if;
    if exists (select from pg_extension where extname = 'pg_cron') and has_schema_privilege('cron', 'usage') then
        perform cron.schedule('commerce-mirror', '* * * * *', 'select mirror.run_schedule()');
    end if;
end
$$;
