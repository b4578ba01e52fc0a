-- What the delivery statistics read: kept by triggers on order_delivery_status, and equal to counting anew. A change only ever
-- adds rows, with what it adds or takes away, so that two that move orders at once never wait for each other; what counts is
-- their sum. mirror.fold_delivery_rollups() makes one row of many from time to time.

create table mirror.delivery_stage_counts (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    stage public.delivery_stage not null,
    orders bigint not null
);

comment on table mirror.delivery_stage_counts is
'How many orders are at each stage now, without cancelled ones: the sum of the rows.';

create index delivery_stage_counts_store_id on mirror.delivery_stage_counts (store_id);

create table mirror.delivery_durations (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    day date not null,
    from_stage public.delivery_stage not null,
    stage public.delivery_stage not null,
    hours integer not null,
    orders integer not null,
    is_folded boolean not null default false
);

comment on table mirror.delivery_durations is
'How many orders went from one stage to the next in so many whole hours, by the day (UTC) on which they got there: the '
'sum of the rows.';
comment on column mirror.delivery_durations.is_folded is 'The row is the sum of others. Kept by mirror.fold_delivery_rollups.';

create index delivery_durations_day on mirror.delivery_durations (store_id, day, from_stage, stage, hours) include (orders);
create index delivery_durations_to_fold on mirror.delivery_durations (store_id, day) where not is_folded;

create table mirror.delivery_norms (
    store_id uuid not null references public.stores (id),
    stage public.delivery_stage not null,
    usual_hours integer not null check (usual_hours > 0),
    updated_at timestamptz not null default now(),
    primary key (store_id, stage)
);

comment on table mirror.delivery_norms is
'How long nine orders of ten stay at a stage at the most, over the last 90 days: longer is stuck. Refreshed every hour.';

create table mirror.expected_steps (
    store_id uuid not null references public.stores (id),
    stage public.delivery_stage not null,
    is_of_batches boolean not null,
    next_stage public.delivery_stage not null,
    median_hours integer not null check (median_hours >= 0),
    p90_hours integer not null check (p90_hours >= median_hours),
    based_on integer not null check (based_on > 0),
    updated_at timestamptz not null default now(),
    primary key (store_id, stage, is_of_batches)
);

comment on table mirror.expected_steps is
'What customers are told to expect: the step that follows a stage, and after how many hours it came in half and in nine of ten '
'cases. Refreshed every hour.';
comment on column mirror.expected_steps.is_of_batches is
'Of import batches over the last year; otherwise of single orders over the last 90 days.';
comment on column mirror.expected_steps.based_on is 'How many batches or orders made this step.';
