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
    request_id text,
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
comment on column mirror.webhook_events.request_id is
'X-Request-ID of the request that brought it: as in the log and in the answer.';
comment on column mirror.webhook_events.reason is 'Why it was skipped, is dead, or is tried again.';

-- A larger document lies beside the row, as it is: to claim and to settle an event does not write it again, and to compress it
-- would cost more than all the rest of accepting it.
alter table mirror.webhook_events alter column payload set storage external;

create index webhook_events_pending on mirror.webhook_events (available_at, id) where state = 'pending';
create index webhook_events_dead on mirror.webhook_events (settled_at) where state = 'dead';
create index webhook_events_entity_id on mirror.webhook_events (integration_id, entity_id);

create trigger touch_updated_at before update on mirror.webhook_events
for each row execute function mirror.touch_updated_at();
