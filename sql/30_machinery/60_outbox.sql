-- The outbox: what the engine still has to be told. One command of an order waits at the most, with the latest values.
--
--     queue ──▶ pending ──claim──▶ pending, leased ──hand out──▶ … and handed_out ──settle──▶ sent | skipped | dead
--                  ▲                     │                              │
--                  └── lease lapses ─────┴──────────────────────────────┤
--                  └── settle 'retry' ──────────────────────────────────┘
--
-- A newer change of the order ends a command that nobody has in hand: it is skipped, and the newer one waits instead. A
-- command that was handed out may have reached the engine, whoever died meanwhile: it stays as it is, only its payload is
-- replaced, and its lease is left alone. Otherwise a second sender could send the new values, and a slow first one the old ones
-- after them. When it is settled, what is still to be told becomes a command of its own.

create type mirror.command_state as enum ('pending', 'sent', 'skipped', 'dead');
comment on type mirror.command_state is
'pending: to be sent, now or at available_at. sent: the engine has taken it. skipped: there is no need any more. dead: the '
'engine refused it, or it was tried too often. Of the last two reason says why.';

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
    handed_out jsonb,
    is_confirmed boolean not null default false,
    change_source_id text,
    stage_set_at timestamptz,
    tracking_number_set_at timestamptz,
    constraint outbox_pending_is_not_settled check ((state = 'pending') = (settled_at is null)),
    constraint outbox_settled_is_not_claimed check (state = 'pending' or claimed_by is null),
    constraint outbox_refusal_has_reason check (state in ('pending', 'sent') or reason is not null),
    constraint outbox_confirmed_was_handed_out check (handed_out is not null or not is_confirmed)
) with (fillfactor = 85);

comment on table mirror.outbox is
'Commands for the engine: an admin''s changes of stage and tracking number. One waits for each order, with the latest values.';
comment on column mirror.outbox.payload is 'For set_delivery: {"stage", "tracking_number"} as they should be in the engine.';
comment on column mirror.outbox.claimed_by is 'Token of the claim that holds the lease.';
comment on column mirror.outbox.handed_out is 'The payload that a sender was given last: the engine may have it.';
comment on column mirror.outbox.is_confirmed is 'The engine said, or shows, that it has what was handed out.';
comment on column mirror.outbox.change_source_id is
'The engine''s id of the change that came of the command: it is in the history already, as the admin''s.';
comment on column mirror.outbox.stage_set_at is
'When an admin set the stage that the command is about; empty: it is not about the stage.';
comment on column mirror.outbox.tracking_number_set_at is 'Likewise, the tracking number.';

create unique index outbox_one_pending on mirror.outbox (order_summary_id, command) where state = 'pending';
create index outbox_pending on mirror.outbox (available_at, id) where state = 'pending';
create index outbox_order_summary_id on mirror.outbox (order_summary_id);
create index outbox_integration_id on mirror.outbox (integration_id);
create index outbox_store_id on mirror.outbox (store_id);
create index outbox_dead on mirror.outbox (order_summary_id) where state = 'dead';

create trigger touch_updated_at before update on mirror.outbox
for each row execute function mirror.touch_updated_at();
