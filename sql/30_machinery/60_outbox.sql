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
