-- How long the inbox keeps what it has settled. An event's payload goes first; its key stays longer, so that a hook that is
-- delivered again after months is still known.

create type mirror.kept as enum ('events', 'keys');
comment on type mirror.kept is
'events: applied and skipped events of the inbox, with their payloads. keys: the ids of events that were removed.';

create table mirror.retention (
    what mirror.kept primary key,
    keep interval not null,
    updated_at timestamptz not null default now()
);

comment on table mirror.retention is
'How long the inbox keeps what it has settled. Dead events stay until somebody retries or skips them.';

create trigger touch_updated_at before update on mirror.retention
for each row execute function mirror.touch_updated_at();

insert into mirror.retention (what, keep) values ('events', '30 days'), ('keys', '180 days');

create table mirror.seen_events (
    integration_id uuid not null references mirror.integrations (id),
    event_id text not null,
    seen_at timestamptz not null,
    primary key (integration_id, event_id)
);

comment on table mirror.seen_events is
'The ids of events that mirror.prune_events has removed: delivered again, they are duplicates.';
comment on column mirror.seen_events.seen_at is 'When the event arrived.';

create index seen_events_seen_at on mirror.seen_events (seen_at);
