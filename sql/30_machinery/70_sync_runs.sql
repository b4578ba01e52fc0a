-- Completeness is proved slice by slice. A run reads an engine from end to end, a slice at a time; each slice leaves a receipt;
-- the cursor moves past slices whose receipts agree, and no further. What a run found is added up in mirror.drift.

create type mirror.run_state as enum ('running', 'complete', 'drifted', 'incomplete', 'refused');
comment on type mirror.run_state is
'running: in hand, or left by a process that died. complete: all receipts agree. drifted: something differs, and nothing was '
'to be changed. incomplete: something could not be read or written; reason says what. refused: too much was gone; reason '
'says how much.';

create table mirror.sync_runs (
    id uuid primary key default mirror.uuid_v7(),
    integration_id uuid not null references mirror.integrations (id),
    kind text not null check (kind in ('backfill', 'reconcile')),
    options jsonb not null,
    state mirror.run_state not null default 'running',
    reason text,
    read_from timestamptz,
    claimed_by uuid,
    claimed_until timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sync_runs_running_is_not_finished check ((state = 'running') = (finished_at is null)),
    constraint sync_runs_running_is_claimed check (state = 'running' or claimed_by is null),
    constraint sync_runs_failure_has_reason check (state in ('running', 'complete') or reason is not null)
) with (fillfactor = 70);

comment on table mirror.sync_runs is 'Each time that an engine was read from end to end, and what came of it.';
comment on column mirror.sync_runs.options is
'{"entities": ["customer", "order"], "since", "is_full", "fix", "allow_gone"}: what was asked for.';
comment on column mirror.sync_runs.reason is 'Why it is not complete.';
comment on column mirror.sync_runs.read_from is 'By the engine''s clock, before the first slice was read.';
comment on column mirror.sync_runs.claimed_by is
'Token of the process that has it in hand, until claimed_until; renewed while it lives.';

create unique index sync_runs_one_running on mirror.sync_runs (integration_id) where state = 'running';
create index sync_runs_integration_id on mirror.sync_runs (integration_id, kind, id);

create trigger touch_updated_at before update on mirror.sync_runs
for each row execute function mirror.touch_updated_at();

create table mirror.sync_cursors (
    id uuid primary key default mirror.uuid_v7(),
    run_id uuid not null references mirror.sync_runs (id) on delete cascade,
    entity text not null check (entity in (
        'customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'
    )),
    slice integer not null default 0 check (slice >= 0),
    position text,
    is_at_end boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (run_id, entity)
) with (fillfactor = 70);

comment on table mirror.sync_cursors is 'How far a run has come: everything before the position is complete.';
comment on column mirror.sync_cursors.slice is 'The first slice that is not complete.';
comment on column mirror.sync_cursors.position is
'Where that slice begins, in the engine''s own terms; empty: at the beginning. It moves only past slices whose receipts agree.';

create trigger touch_updated_at before update on mirror.sync_cursors
for each row execute function mirror.touch_updated_at();

create table mirror.sync_receipts (
    id uuid primary key default mirror.uuid_v7(),
    run_id uuid not null references mirror.sync_runs (id) on delete cascade,
    entity text not null check (entity in (
        'customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'
    )),
    slice integer not null check (slice >= 0),
    read_at timestamptz not null,
    next_position text,
    counted integer not null check (counted >= 0),
    listed integer not null check (listed >= 0),
    written integer not null check (written >= 0),
    unchanged integer not null check (unchanged >= 0),
    skipped integer not null check (skipped >= 0),
    vanished integer not null check (vanished >= 0),
    tombstoned integer not null check (tombstoned >= 0),
    rejected integer not null check (rejected >= 0),
    source_hash text not null,
    content_hash text not null,
    written_ids text[] not null default '{}',
    tombstoned_ids text[] not null default '{}',
    found jsonb not null default '[]',
    differing jsonb not null default '[]',
    is_superseded boolean not null default false,
    is_complete boolean not null generated always as (
        counted = written + unchanged + skipped + vanished and rejected = 0 and content_hash = source_hash
    ) stored,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

comment on table mirror.sync_receipts is 'What the engine had in each slice of a run, and what became of it here.';
comment on column mirror.sync_receipts.read_at is 'By the engine''s clock, before the slice was read.';
comment on column mirror.sync_receipts.counted is 'How many the engine counts in the slice, asked by itself.';
comment on column mirror.sync_receipts.listed is 'How many it listed that the run had not met before.';
comment on column mirror.sync_receipts.written is 'Stand here now as this slice brought them.';
comment on column mirror.sync_receipts.unchanged is 'Stood here already so, or newer.';
comment on column mirror.sync_receipts.skipped is 'Are not for us, by the document.';
comment on column mirror.sync_receipts.vanished is 'Were listed, and gone when they were read a moment later.';
comment on column mirror.sync_receipts.tombstoned is 'Are marked deleted here now, because this slice found them gone.';
comment on column mirror.sync_receipts.rejected is
'Are not here as the engine has them: differing says which, and why.';
comment on column mirror.sync_receipts.source_hash is 'Digest of ids and contents as the engine told them.';
comment on column mirror.sync_receipts.content_hash is 'The same of what is here, read after the writing.';
comment on column mirror.sync_receipts.found is
'What a reconcile found to differ, before it wrote: [{"source_id", "state": "missing|stale|gone", "cause", "detail"}].';
comment on column mirror.sync_receipts.differing is 'What still differs: [{"source_id", "reason"}].';
comment on column mirror.sync_receipts.is_superseded is 'The slice was read again in the same run.';
comment on column mirror.sync_receipts.is_complete is 'All that the engine counted is here.';

create unique index sync_receipts_slice on mirror.sync_receipts (run_id, entity, slice) where not is_superseded;
create index sync_receipts_run_id on mirror.sync_receipts (run_id, entity);

create trigger touch_updated_at before update on mirror.sync_receipts
for each row execute function mirror.touch_updated_at();

create unlogged table mirror.sync_seen (
    run_id uuid not null,
    entity text not null,
    source_id text not null,
    slice integer not null,
    primary key (run_id, entity, source_id)
);

comment on table mirror.sync_seen is
'What a run has met so far, so that it can tell what is gone. Unlogged: if a crash of the server empties it, the run knows, '
'for its receipts say how much there should be.';

create table mirror.drift (
    id uuid primary key default mirror.uuid_v7(),
    run_id uuid references mirror.sync_runs (id) on delete set null,
    integration_id uuid not null references mirror.integrations (id),
    entity text not null check (entity in (
        'customer', 'order', 'payment', 'refund', 'plan', 'subscription', 'invoice'
    )),
    counted bigint not null,
    seen bigint not null,
    removed bigint not null,
    missing bigint not null,
    stale bigint not null,
    gone bigint not null,
    on_its_way bigint not null,
    never_sent bigint not null,
    differing bigint not null,
    is_complete boolean not null,
    created_at timestamptz not null default now(),
    unique (run_id, entity)
);

comment on table mirror.drift is 'How far mirror and engine were apart, by run: drift over time.';
comment on column mirror.drift.counted is 'How many the engine counts in all.';
comment on column mirror.drift.seen is 'How many it listed.';
comment on column mirror.drift.removed is 'Of these, removed while the run went on.';
comment on column mirror.drift.missing is 'The engine had them, and the mirror did not. Healed, if the run was to heal.';
comment on column mirror.drift.stale is 'The mirror had them in another state than the engine.';
comment on column mirror.drift.gone is 'The mirror had them, and the engine no longer did.';
comment on column mirror.drift.on_its_way is
'Differed, but a hook had come, or came while the run went on: in none of the three.';
comment on column mirror.drift.never_sent is 'Of the three, those of which no hook had told, for all that the inbox knows.';
comment on column mirror.drift.differing is 'Still differ.';

create index drift_integration_id on mirror.drift (integration_id, created_at);
