-- Deliveries: five stages, forwards, with their history; and the totals of customers.

begin;
\ir helpers.psql
select plan(22);

create function tests.stages(p_code text) returns text []
language sql as $$
    select array_agg(stage::text order by updated_at, id)
    from public.order_delivery_status_events
    where order_code = p_code
$$;

create function tests.delivery(p_code text) returns public.order_delivery_status
language sql as $$ select s from public.order_delivery_status as s where order_code = p_code $$;

select tests.register('1');
select tests.place('A');
select is((tests.delivery('A')).stage::text, 'ORDER_CONFIRMED', 'a placed order is confirmed');
select is(tests.stages('A'), '{ORDER_CONFIRMED}', '… and its history begins');

select is(
    (public.update_order_delivery_status('A', 'SOURCING', null, 'on its way', 'Ruwan')).stage::text, 'SOURCING',
    'update_order_delivery_status moves it on'
);
select is(
    (select (note, updated_by)::text from public.order_delivery_status_events where stage = 'SOURCING'),
    '("on its way",Ruwan)', '… and the history says who and why'
);
select public.update_order_delivery_status('A', 'SOURCING', null, 'on its way', 'Ruwan');
select is(tests.stages('A'), '{ORDER_CONFIRMED,SOURCING}', 'the same call twice adds nothing');

select tests.edit('order_delivery_status', (tests.delivery('A')).id, 'stage', 'DISPATCHED');
select tests.edit('order_delivery_status', (tests.delivery('A')).id, 'tracking_number', 'SLP-1');
select results_eq(
    'select delivery_stage::text, tracking_number from public.customer_orders_summary',
    'values (''DISPATCHED'', ''SLP-1'')', 'an edit of the status is in the order, too'
);
select tests.edit(
    'customer_orders_summary', (select id from public.customer_orders_summary), 'delivery_stage', 'DELIVERED'
);
select is((tests.delivery('A')).stage::text, 'DELIVERED', '… and an edit of the order in the status');
select ok(tests.stages('A') @> '{DISPATCHED,DELIVERED}', '… and both are in the history');
select throws_like(
    $$ select tests.edit('order_delivery_status', (tests.delivery('A')).id, 'stage', 'ARRIVED') $$, '%cannot go back%',
    'a delivery does not go back'
);
select public.correct_order_delivery_status('A', 'ARRIVED', 'was the wrong parcel', 'Ruwan');
select is((tests.delivery('A')).stage::text, 'ARRIVED', '… but by a correction');
select throws_like(
    $$ update public.order_delivery_status_events set note = 'never happened' $$, '%is not changed or removed%',
    'the history is not rewritten'
);
select throws_like($$ delete from public.customer_orders_summary $$, '%has a history%', 'an order is not deleted');
select throws_like(
    $$ select public.update_order_delivery_status('nothing', 'ARRIVED') $$, '%no order with the code%',
    'a wrong code is named'
);

select tests.place('B', p_refunded => 250);
select results_eq(
    'select total_orders, total_spent::numeric, spent_by_currency from public.customers',
    'values (2, 1750.00::numeric, ''{"LKR": 1750}''::jsonb)', 'totals count, less refunds'
);
select tests.place('B', p_cancelled_at => now());
select results_eq(
    'select total_orders, total_spent::numeric from public.customers', 'values (1, 1000::numeric)',
    'a cancelled order does not count'
);
update public.customers set total_orders = 9;
select public.update_customer_statistics((select id from public.customers));
select is((select total_orders from public.customers), 1, 'update_customer_statistics counts anew');
select throws_like(
    $$ select tests.edit('order_delivery_status', (tests.delivery('B')).id, 'stage', 'SOURCING') $$, '%is cancelled%',
    'a cancelled order does not move'
);
select is((tests.delivery('B')).stage::text, 'ORDER_CONFIRMED', '… and stays where it was');
select is(
    (select orders_by_stage ->> 'ARRIVED' from public.get_delivery_statistics()), '1',
    'get_delivery_statistics counts the orders of a stage'
);

select tests.place('C', p_paid => 0);
select public.update_order_delivery_status('C', 'SOURCING');
select is(
    (select reason from public.orders_needing_attention where order_code = 'C'), 'unpaid',
    'an unpaid order on its way needs attention'
);
select is((select status from public.order_tracking where order_code = 'A'), 'processing', 'order_tracking in its own words');

insert into public.otp_sessions (session_id, phone, purpose, otp_hash, expires_at)
select n, '94771234567', 'tracking', '$2b$12$' || repeat('x', 53), now() + make_interval(mins => n)
from unnest('{-1,5}'::int []) as n;
select is(public.cleanup_expired_otps(), 1, 'cleanup_expired_otps deletes what has expired, and says how many');

select * from finish();
rollback;
