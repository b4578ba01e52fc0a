-- What the delivery statistics read: kept by a trigger on order_delivery_status, and equal to counting anew. Rows are split into
-- shards, so that two that move orders at once do not wait for each other.

create table mirror.delivery_stage_counts (
    store_id uuid not null references public.stores (id),
    stage public.delivery_stage not null,
    shard smallint not null,
    orders bigint not null,
    primary key (store_id, stage, shard)
);

comment on table mirror.delivery_stage_counts is 'How many orders are at each stage now, without cancelled ones: the sum of the shards.';

create table mirror.delivery_durations (
    store_id uuid not null references public.stores (id),
    day date not null,
    from_stage public.delivery_stage not null,
    stage public.delivery_stage not null,
    hours integer not null,
    shard smallint not null,
    orders bigint not null,
    primary key (store_id, day, stage, from_stage, hours, shard)
);

comment on table mirror.delivery_durations is
'How many orders went from one stage to the next in so many whole hours, by the day (UTC) on which they got there: the sum of the shards.';

create table mirror.delivery_norms (
    store_id uuid not null references public.stores (id),
    stage public.delivery_stage not null,
    usual_hours integer not null check (usual_hours > 0),
    updated_at timestamptz not null default now(),
    primary key (store_id, stage)
);

comment on table mirror.delivery_norms is
'How long nine orders of ten stay at a stage at the most, over the last 90 days: longer is stuck. Refreshed every hour.';
