create table mirror.hand_edits (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    source public.commerce_engine not null,
    entity text not null check (entity in ('customer', 'order', 'plan', 'subscription', 'invoice')),
    source_id text not null,
    actor text not null,
    table_name text not null,
    action text not null check (action in ('insert', 'update', 'delete')),
    columns text[] not null default '{}',
    created_at timestamptz not null default now()
);

comment on table mirror.hand_edits is
'Who changed by hand what belongs to the engine. The next reconcile puts it right; the contents are not noted.';
comment on column mirror.hand_edits.source_id is 'The engine''s id of what was changed, or whose part was.';
comment on column mirror.hand_edits.columns is 'Which columns were changed.';

create index hand_edits_source_id on mirror.hand_edits (store_id, source, entity, source_id);
