-- Where orders are, for many who ask at once, by phone number, token or link; and what they may expect to come next.

drop function mirror.track_order(text, text, text);

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

create function mirror.refresh_expected_steps() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_steps integer;
begin
    insert into mirror.expected_steps as x (
        store_id, stage, is_of_batches, next_stage, median_hours, p90_hours, based_on
    )
    -- After a stage most orders go to one other: a shop with everything on the shelf leaves stages out.
    (
        select distinct on (s.store_id, s.from_stage)
            s.store_id, s.from_stage, false, s.stage,
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.5),
            mirror.percentile_hours(array_agg(s.hours), array_agg(s.orders), 0.9),
            sum(s.orders)::integer
        from (
            select d.store_id, d.from_stage, d.stage, d.hours, sum(d.orders)::bigint as orders
            from mirror.delivery_durations as d
            where d.day > (now() at time zone 'utc')::date - 90
            group by d.store_id, d.from_stage, d.stage, d.hours
            having sum(d.orders) > 0
        ) as s
        group by s.store_id, s.from_stage, s.stage
        order by s.store_id, s.from_stage, sum(s.orders) desc, s.stage
    )
    union all
    select
        b.store_id, s.stage::public.delivery_stage, true, s.next_stage::public.delivery_stage,
        percentile_disc(0.5) within group (order by h.hours), percentile_disc(0.9) within group (order by h.hours),
        count(*)::integer
    from public.import_batches as b
    cross join lateral (
        values
        ('ORDER_CONFIRMED', 'SOURCING', b.created_at, b.ordered_at),
        ('SOURCING', 'ARRIVED', b.ordered_at, b.arrived_at),
        ('ARRIVED', 'DISPATCHED', b.arrived_at, b.dispatched_at)
    ) as s (stage, next_stage, from_at, at)
    cross join lateral (select floor(extract(epoch from s.at - s.from_at) / 3600)::integer as hours) as h
    where b.order_count > 0 and s.at between now() - interval '1 year' and now() and s.at >= s.from_at
    group by b.store_id, s.stage, s.next_stage
    on conflict (store_id, stage, is_of_batches) do update set
        next_stage = excluded.next_stage,
        median_hours = excluded.median_hours,
        p90_hours = excluded.p90_hours,
        based_on = excluded.based_on,
        updated_at = now();
    get diagnostics v_steps = row_count;
    delete from mirror.expected_steps as x where x.updated_at < now();
    return v_steps;
end
$$;

comment on function mirror.refresh_expected_steps() is
'Learns what customers may be told to expect: from the last 90 days of deliveries, and from the last year''s import batches; '
'returns how many steps it knows.';
revoke execute on function mirror.refresh_expected_steps() from public;
grant execute on function mirror.refresh_expected_steps() to service_role;

create function mirror.track_orders(p_stores text[], p_codes text[], p_proofs text[], p_phones text[])
returns table (question integer, order_id uuid, batch_id uuid, told json)
language plpgsql stable
set search_path = ''
set plan_cache_mode = force_generic_plan -- planning takes longer than answering
as $$
begin
    return query
    with asked as (
        select
            q.number::integer, q.code, q.proof, q.phone, s.id as store_id,
            (now() at time zone s.timezone)::date as today
        from unnest(p_stores, p_codes, p_proofs, p_phones) with ordinality as q (store, code, proof, phone, number)
        inner join public.stores as s on s.slug = q.store and s.is_active
    )
    select a.number, o.id, o.batch_id, json_build_object(
        'order_code', o.order_code,
        'placed_at', o.order_date,
        'cancelled_at', o.cancelled_at,
        'stage', d.stage,
        'timeline', json_build_array(
            json_build_object('stage', 'ORDER_CONFIRMED', 'reached_at', d.confirmed_at),
            json_build_object('stage', 'SOURCING', 'reached_at', case when d.stage >= 'SOURCING' then d.sourcing_at end),
            json_build_object('stage', 'ARRIVED', 'reached_at', case when d.stage >= 'ARRIVED' then d.arrived_at end),
            json_build_object('stage', 'DISPATCHED', 'reached_at', case when d.stage >= 'DISPATCHED' then d.dispatched_at end),
            json_build_object('stage', 'DELIVERED', 'reached_at', case when d.stage = 'DELIVERED' then d.delivered_at end)
        ),
        'tracking_number', case when d.stage >= 'DISPATCHED' then d.tracking_number end,
        'carrier', case when d.stage >= 'DISPATCHED' then d.carrier end,
        'currency', o.currency,
        'total_with_tax', o.total_with_tax::text,
        'items', (
            select coalesce(
                json_agg(
                    json_build_object(
                        'product_name', i.product_name,
                        'variant_name', i.variant_name,
                        'quantity', i.quantity,
                        'print_name', i.print_name,
                        'print_number', i.print_number
                    )
                    order by i.product_name, i.variant_name, i.id
                ),
                '[]'
            )
            from public.customer_order_items as i
            where i.order_summary_id = o.id and i.quantity > 0
        ),
        'eta', d.eta,
        'is_delayed', way.is_open and coalesce(d.eta < a.today or coalesce(named.day < a.today, usual.latest < now()), false),
        'expected', case
            when way.is_open and named.day is null and usual.latest >= now() then json_build_object(
                'stage', usual.next_stage,
                'earliest', usual.earliest,
                'latest', usual.latest,
                'based_on', usual.based_on
            )
        end,
        'batch', case
            when way.is_open and d.stage < 'DISPATCHED' and b.id is not null then json_build_object(
                'number', b.batch_number,
                'state', b.status,
                'orders', b.order_count,
                'target', b.target_order_count,
                'arrives_on', b.expected_arrival_date
            )
        end
    )
    from asked as a
    cross join lateral (
        -- There is one at the most. The limit keeps it a look-up by both keys, whatever is known of the table.
        select k.*
        from public.customer_orders_summary as k
        where k.store_id = a.store_id and k.order_code = a.code and k.deleted_at is null
        limit 1
    ) as o
    inner join public.order_delivery_status as d on d.order_summary_id = o.id
    left join public.customers as c on c.id = o.customer_id
    left join public.import_batches as b on b.id = o.batch_id
    cross join lateral (select d.stage < 'DELIVERED' and o.cancelled_at is null as is_open) as way
    left join lateral (
        select
            x.next_stage, x.based_on,
            since.at + make_interval(hours => x.median_hours) as earliest,
            since.at + make_interval(hours => x.p90_hours) as latest
        from mirror.expected_steps as x
        cross join lateral (
            -- A batch's orders wait for the batch, since when it is where it is: whoever joined late waits less.
            select coalesce(
                case when x.is_of_batches then
                    case d.stage
                        when 'ORDER_CONFIRMED' then b.created_at
                        when 'SOURCING' then b.ordered_at
                        when 'ARRIVED' then b.arrived_at
                    end
                end,
                d.stage_since
            ) as at
        ) as since
        where
            x.store_id = o.store_id and x.stage = d.stage and x.based_on >= 5
            and (not x.is_of_batches or (b.id is not null and mirror.batch_stage(b.status) = d.stage))
        order by x.is_of_batches desc
        limit 1
    ) as usual on true
    cross join lateral (
        -- The day that the shop itself names for the next step counts more than what was usual.
        select case
            when d.stage = 'SOURCING' and b.status < 'arrived' then b.expected_arrival_date
            when d.stage = 'DISPATCHED' then d.eta
        end as day
    ) as named
    where
        case a.proof
            when 'phone' then o.contact_phone = a.phone or c.phone_number = a.phone
            -- As the policy "customers read themselves" has it.
            when 'token' then c.phone_verified and c.phone_number = a.phone and c.store_id = a.store_id and c.deleted_at is null
            else a.proof = 'link'
        end;
end
$$;

comment on function mirror.track_orders(text[], text[], text[], text[]) is
'Where orders are, for those who prove that they may know. Of each question: the store''s slug, the order''s code, the proof '
'(phone: a number of the order; token: the number that a token of this store says was proved; link: the caller has checked it), '
'and the number, digits with country code. Returns a row for each question that is answered: what is told; by link its caller '
'leaves out total and print names. Tracking number and carrier are told from DISPATCHED on.';
revoke execute on function mirror.track_orders(text[], text[], text[], text[]) from public;
grant execute on function mirror.track_orders(text[], text[], text[], text[]) to service_role;

create function mirror.tell_watchers() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_table_name in ('customer_orders_summary', 'import_batches') then
        perform pg_notify('mirror_tracking', new.id::text);
    else
        perform pg_notify('mirror_tracking', new.order_summary_id::text);
    end if;
    return null;
end
$$;

comment on function mirror.tell_watchers() is
'Trigger: something that customers are told of this order or import batch has changed. Those who watch an order by '
'GET /orders/{code}/events hear of it.';
revoke execute on function mirror.tell_watchers() from public;

-- Who watches an order hears of what mirror.track_orders tells of it. Rows, with conditions: a slice of new orders, or of
-- orders of which only other things changed, sends no notification at all. What no trigger sees (a line that is added, a
-- number that is no longer proved) is seen when the API looks again by itself.

create trigger tell_watchers after update on public.customer_orders_summary
for each row
when (
    (
        old.order_code, old.order_date, old.cancelled_at, old.deleted_at, old.currency, old.total_with_tax, old.batch_id,
        old.contact_phone, old.customer_id
    ) is distinct from (
        new.order_code, new.order_date, new.cancelled_at, new.deleted_at, new.currency, new.total_with_tax, new.batch_id,
        new.contact_phone, new.customer_id
    )
)
execute function mirror.tell_watchers();

create trigger tell_watchers after update on public.customer_order_items
for each row
when (
    (old.product_name, old.variant_name, old.quantity, old.print_name, old.print_number)
    is distinct from (new.product_name, new.variant_name, new.quantity, new.print_name, new.print_number)
)
execute function mirror.tell_watchers();

create trigger tell_watchers after update on public.order_delivery_status
for each row
when (
    (
        old.stage, old.tracking_number, old.carrier, old.eta, old.confirmed_at, old.sourcing_at, old.arrived_at,
        old.dispatched_at, old.delivered_at
    ) is distinct from (
        new.stage, new.tracking_number, new.carrier, new.eta, new.confirmed_at, new.sourcing_at, new.arrived_at,
        new.dispatched_at, new.delivered_at
    )
)
execute function mirror.tell_watchers();

create trigger tell_watchers after update on public.import_batches
for each row
when (
    (
        old.batch_number, old.status, old.order_count, old.target_order_count, old.expected_arrival_date, old.created_at,
        old.ordered_at, old.arrived_at
    ) is distinct from (
        new.batch_number, new.status, new.order_count, new.target_order_count, new.expected_arrival_date, new.created_at,
        new.ordered_at, new.arrived_at
    )
)
execute function mirror.tell_watchers();

insert into mirror.schedule (job, command, every) values
('refresh_expected_steps', 'select mirror.refresh_expected_steps()', '1 hour');

alter table mirror.expected_steps enable row level security;
alter table mirror.expected_steps force row level security;

grant select, insert, update, delete on mirror.expected_steps to service_role;
