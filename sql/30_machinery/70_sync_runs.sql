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
