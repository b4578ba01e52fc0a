-- A shop of any size, set-based: so many orders as bench.orders says, over 913 days to now, each with two items, five to a customer,
-- 400 to an import batch, and the history of its delivery. Run as superuser: triggers and foreign keys are off while it writes, and
-- the mirror's own functions bring up what triggers would have kept.

set session_replication_role = replica;
select setseed(0.42);

-- Batches fill one after the other, as orders join the open one.
create temporary table batch_plan as
select b, mirror.uuid_v7() as id,
    now() - interval '913 days' * (1 - (b + 1)::double precision / batches) + interval '1 day' as ordered_at,
    interval '10 days' + random() * interval '7 days' as transit
from (select current_setting('bench.orders')::bigint / 400 as batches) t
cross join generate_series(0, t.batches - 1) b;

create temporary table order_plan as
select o.*, mirror.uuid_v7() as id,
    case when o.dice >= 0.02 and sourcing_at < now() then sourcing_at end as was_sourced_at,
    case when o.dice >= 0.021 and arrived_at < now() then arrived_at end as was_arrived_at,
    case when o.dice >= 0.022 and dispatched_at < now() then dispatched_at end as was_dispatched_at,
    case when o.dice >= 0.023 and delivered_at < now() then delivered_at end as was_delivered_at
from (
    select s.*, p.id as batch_id, p.ordered_at as sourcing_at, p.ordered_at + p.transit as arrived_at,
        p.ordered_at + p.transit + (4 + 72 * s.luck) * interval '1 hour' as dispatched_at,
        p.ordered_at + p.transit + (14 + 72 * s.luck + 96 * random()) * interval '1 hour' as delivered_at
    from (
        select n, n * 7919 % (t.orders / 5) as customer, least(n / 400, t.last_batch) as b,
            now() - interval '913 days' * (1 - n::double precision / t.orders) as placed_at,
            random() as dice, random() as luck
        from (
            select current_setting('bench.orders')::bigint as orders, max(b) as last_batch
            from batch_plan
        ) t, generate_series(0, t.orders - 1) n
    ) s
    join batch_plan p using (b)
) o;
analyze order_plan;

insert into auth.users (id)
select md5('customer ' || c)::uuid from generate_series(0, current_setting('bench.orders')::bigint / 5 - 1) c;

create temporary table customer_plan as
select c, mirror.uuid_v7() as id from generate_series(0, current_setting('bench.orders')::bigint / 5 - 1) c;

insert into public.customers (id, store_id, source, source_id, source_version, email, phone_number, first_name, last_name,
    auth_user_id, is_active)
select p.id, mirror.default_store_id(), 'vendure', p.c::text, now(), 'customer-' || p.c || '@example.com', '9477' || lpad(p.c::text, 7, '0'),
    'Nimal', 'Perera', md5('customer ' || p.c)::uuid, true
from customer_plan p;

insert into public.import_batches (id, store_id, batch_number, status, target_order_count, ordered_at, arrived_at, completed_at, created_at)
select p.id, mirror.default_store_id(), to_char(ordered_at, 'YYYYMMDD') || '-' || lpad(p.b::text, 4, '0'),
    case when ordered_at > now() then 'collecting' when ordered_at + transit > now() then 'orderedFromSupplier'
        when ordered_at + transit + interval '10 days' > now() then 'arrived' else 'completed' end::public.batch_status,
    400, least(ordered_at, now()), least(ordered_at + transit, now()),
    case when ordered_at + transit + interval '10 days' <= now() then ordered_at + transit + interval '10 days' end,
    least(ordered_at - interval '5 days', now())
from batch_plan p;

insert into public.customer_orders_summary (id, store_id, customer_id, source, source_id, source_version, order_code, order_state, order_date,
    delivery_stage, tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total, total_with_tax, total_paid,
    total_refunded, shipping_method, shipping_address, billing_address, contact_name, contact_phone, contact_email, cancelled_at, batch_id,
    joined_batch_at, source_delivery_stage, source_tracking_number, created_at, updated_at)
select p.id, mirror.default_store_id(), c.id, 'vendure', p.n::text, now(), 'BENCH' || lpad(p.n::text, 8, '0'),
    case when p.dice < 0.02 then 'Cancelled' else 'PaymentSettled' end, p.placed_at, s.stage,
    case when p.was_dispatched_at is not null then 'SLP-' || p.n end, 'card', 'LKR', 2000, 350, 400, 0, 2350, 2750,
    case when p.luck < 0.001 then 0 else 2750 end, case when p.luck > 0.99 then 500 else 0 end, 'Courier', a.address, a.address, 'Nimal Perera',
    '9477' || lpad(c.c::text, 7, '0'), 'customer-' || c.c || '@example.com', case when p.dice < 0.02 then p.placed_at + interval '1 day' end,
    p.batch_id, p.placed_at, s.stage, case when p.was_dispatched_at is not null then 'SLP-' || p.n end, p.placed_at, p.placed_at
from order_plan p
join customer_plan c on c.c = p.customer
cross join lateral (
    select (enum_range(null::public.delivery_stage))[1 + num_nonnulls(was_sourced_at, was_arrived_at, was_dispatched_at, was_delivered_at)] as stage
) s
cross join (
    select '{"fullName": "Nimal Perera", "streetLine1": "4/1 Temple Lane", "streetLine2": "", "city": "Colombo 05", "province": "Western",
        "postalCode": "00500", "countryCode": "LK", "phoneNumber": "077 123 4567"}'::jsonb as address
) a
order by p.n;

insert into public.customer_order_items (store_id, order_summary_id, source_id, source_version, sku, product_name, variant_name, quantity, currency,
    unit_price_with_tax, line_total_with_tax, print_name, print_number)
select mirror.default_store_id(), p.id, p.n || '-' || i, now(), 'KIT-' || (p.n + i) % 97, 'Colombo Home Kit 2026', 'Colombo Home Kit 2026 M', i, 'LKR',
    1000, 1000 * i, 'PERERA', (p.n % 99)::text
from order_plan p, generate_series(1, 2) i
order by p.n;

insert into public.order_batch_assignments (store_id, order_summary_id, batch_id, vendure_order_id, is_open, assigned_by)
select b.store_id, p.id, p.batch_id, p.n::text, b.status <> 'completed', 'engine:vendure'
from order_plan p
join public.import_batches b on b.id = p.batch_id
order by p.n;

insert into public.order_delivery_status (store_id, order_summary_id, order_code, stage, tracking_number, carrier, updated_by, is_cancelled,
    confirmed_at, sourcing_at, arrived_at, dispatched_at, delivered_at)
select o.store_id, o.id, o.order_code, o.delivery_stage, o.tracking_number, 'Trans Express', 'vendure', o.cancelled_at is not null,
    p.placed_at, p.was_sourced_at, p.was_arrived_at, p.was_dispatched_at, p.was_delivered_at
from order_plan p
join public.customer_orders_summary o on o.id = p.id
order by p.n;

-- An order's steps, and for each twentieth a tracking number that was corrected.
insert into public.order_delivery_status_events (store_id, order_summary_id, order_code, from_stage, stage, tracking_number, updated_by, actor,
    source_id, updated_at)
select mirror.default_store_id(), p.id, 'BENCH' || lpad(p.n::text, 8, '0'), e.from_stage::public.delivery_stage, e.stage::public.delivery_stage,
    case when e.stage in ('DISPATCHED', 'DELIVERED') then 'SLP-' || p.n end, 'vendure', 'engine:vendure', e.source_id, e.at
from order_plan p
cross join lateral (
    values (null, 'ORDER_CONFIRMED', 'placed', p.placed_at), ('ORDER_CONFIRMED', 'SOURCING', '1', p.was_sourced_at),
        ('SOURCING', 'ARRIVED', '2', p.was_arrived_at), ('ARRIVED', 'DISPATCHED', '3', p.was_dispatched_at),
        ('DISPATCHED', 'DISPATCHED', '4', case when p.n % 20 = 0 then p.was_dispatched_at + interval '1 minute' end),
        ('DISPATCHED', 'DELIVERED', '5', p.was_delivered_at)
) e (from_stage, stage, source_id, at)
where e.at is not null
order by p.n;

analyze public.customers, public.customer_orders_summary, public.order_delivery_status, public.order_batch_assignments, public.import_batches;
select mirror.recount_batches(array(select id from public.import_batches));
set session_replication_role = default;

do $$
declare
    v_ids uuid[];
    v_last uuid := '00000000-0000-0000-0000-000000000000';
begin
    loop
        select array_agg(id), max(id::text)::uuid into v_ids, v_last
        from (select id from public.order_delivery_status where id > v_last order by id limit 10000) s;
        exit when v_ids is null;
        perform mirror.roll_up_deliveries('{}', array(select s from public.order_delivery_status s where s.id = any(v_ids)));
    end loop;
    v_last := '00000000-0000-0000-0000-000000000000';
    loop
        select array_agg(id), max(id::text)::uuid into v_ids, v_last
        from (select id from public.customers where id > v_last order by id limit 10000) c;
        exit when v_ids is null;
        perform mirror.refresh_customer_statistics(v_ids);
    end loop;
    perform mirror.fold_delivery_rollups();
    perform mirror.refresh_delivery_norms();
end
$$;
