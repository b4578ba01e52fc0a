create table mirror.sync_conflicts (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    integration_id uuid not null references mirror.integrations (id),
    order_summary_id uuid not null references public.customer_orders_summary (id) on delete cascade,
    order_code text not null,
    engine_stage public.delivery_stage not null,
    engine_tracking_number text,
    engine_changed_at timestamptz not null,
    mirror_stage public.delivery_stage not null,
    mirror_tracking_number text,
    mirror_changed_at timestamptz not null,
    mirror_changed_by text not null,
    resolution mirror.conflict_side,
    resolved_by text,
    resolved_at timestamptz,
    outcome text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sync_conflicts_ended_has_outcome check ((resolved_at is null) = (outcome is null)),
    constraint sync_conflicts_chosen_is_ended check (resolution is null or resolved_at is not null)
);

comment on table mirror.sync_conflicts is
'Deliveries that shop and mirror have both changed, where the integration''s conflict_policy is ask. While one is open, nothing '
'is sent for its order, and neither side is overwritten. Choose a side in resolution.';
comment on column mirror.sync_conflicts.engine_stage is 'What the shop says.';
comment on column mirror.sync_conflicts.mirror_stage is 'What an admin has set here.';
comment on column mirror.sync_conflicts.resolution is
'Choose whose values count: engine (the shop''s) or mirror (the admin''s, here). It is done at once, and for good.';
comment on column mirror.sync_conflicts.resolved_at is 'Empty while the conflict is open.';
comment on column mirror.sync_conflicts.outcome is 'How it ended, in words.';

create unique index sync_conflicts_one_open on mirror.sync_conflicts (order_summary_id) where resolved_at is null;
create index sync_conflicts_order_summary_id on mirror.sync_conflicts (order_summary_id);
create index sync_conflicts_integration_id on mirror.sync_conflicts (integration_id);
create index sync_conflicts_store_id on mirror.sync_conflicts (store_id);

create trigger touch_updated_at before update on mirror.sync_conflicts
for each row execute function mirror.touch_updated_at();
