create table mirror.integrations (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    slug text not null unique check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    engine public.commerce_engine not null,
    secrets_variable text not null check (secrets_variable ~ '^[A-Z][A-Z0-9_]*$'),
    money_precision smallint check (money_precision between 0 and 4),
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    max_gone_share numeric not null default 0.05 check (max_gone_share between 0 and 1),
    reconcile_every interval default '1 hour' check (reconcile_every >= '1 minute'),
    reconcile_window interval not null default '3 days' check (reconcile_window > '0'),
    full_reconcile_every interval default '1 day' check (full_reconcile_every >= '1 minute'),
    silence_factor numeric not null default 2 check (silence_factor >= 1),
    silence_at_least interval not null default '1 hour' check (silence_at_least > '0'),
    conflict_policy mirror.conflict_policy not null default 'last_write_wins',
    is_test boolean
);

comment on table mirror.integrations is 'A commerce engine connected to a store. Its hooks arrive at /hooks/<slug>.';
comment on column mirror.integrations.secrets_variable is
'Name of the environment variable that holds the hook secrets (comma-separated while one is rotated). '
'The secrets themselves are not in the database.';
comment on column mirror.integrations.money_precision is
'Decimals in the engine''s integer amounts; empty: as many as the currency has (JPY 0, LKR 2, KWD 3).';
comment on column mirror.integrations.conflict_policy is
'What counts where shop and mirror have both changed a delivery since they last agreed: last_write_wins (the later change), '
'engine_wins (the shop''s), or ask (nobody''s, until an admin chooses a side in mirror.sync_conflicts).';
comment on column mirror.integrations.is_test is
'Of an engine with a test mode (Stripe), whether that is mirrored: what happens in the other mode is skipped. Empty: the mode of '
'the API key, or without one whichever the hooks tell of.';
comment on column mirror.integrations.max_gone_share is
'Of all that a reconcile compares of a kind, the share that may be gone from the engine at once. More is refused and reported; '
'up to ten are always believed.';
comment on column mirror.integrations.reconcile_every is
'How often the daemon compares what was touched within reconcile_window with the engine; empty: never.';
comment on column mirror.integrations.full_reconcile_every is 'How often it compares everything; empty: never.';
comment on column mirror.integrations.silence_factor is
'No hook for so many times the usual longest wait, and for at least silence_at_least, raises an alarm.';

create index integrations_store_id on mirror.integrations (store_id);

create trigger touch_updated_at before update on mirror.integrations
for each row execute function mirror.touch_updated_at();

insert into mirror.integrations (store_id, slug, engine, secrets_variable)
select id, 'vendure', 'vendure', 'VENDURE_HOOK_SECRETS'
from public.stores
where slug = 'default';
