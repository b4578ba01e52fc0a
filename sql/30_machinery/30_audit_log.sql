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
create index audit_log_batched on mirror.audit_log ((new_values ->> 'order_summary_id'))
where table_name = 'order_batch_assignments' and action = 'insert';
