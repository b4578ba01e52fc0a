-- Batches as an admin lives them in Studio: one edited cell at a time.

begin;
\ir helpers.psql
select plan(25);

select tests.register('1');
insert into public.import_batches (target_order_count) values (2);
select matches((select batch_number from public.import_batches), '^\d{8}-\d{4}$', 'a new row gets its number');

select tests.place('A');
select is(tests.batch_of('A'), (select id from public.import_batches), 'a pre-order joins the open batch');
select is((select count(*)::int from public.order_batch_assignments), 1, '… by a row of order_batch_assignments');
select tests.place('B');
select ok((select is_ready from public.import_batches where id = tests.batch_of('A')), 'at its target it is ready');
select is((select count(*)::int from public.import_batches), 2, '… and the next one opens');
select tests.place('C');
select isnt(tests.batch_of('C'), tests.batch_of('A'), '… which the next order joins');
select is((select order_count from public.import_batches where id = tests.batch_of('A')), 2, 'order_count counts');

select tests.edit('import_batches', tests.batch_of('A'), 'status', 'orderedFromSupplier');
select results_eq(
    'select stage::text from public.order_delivery_status where order_code in (''A'', ''B'')', '{SOURCING,SOURCING}'::text [],
    'ordered: its orders are SOURCING'
);
select is(
    (select delivery_stage::text from public.customer_orders_summary where order_code = 'A'), 'SOURCING',
    '… in customer_orders_summary, too'
);
select is(
    (select stage::text from public.order_delivery_status where order_code = 'C'), 'ORDER_CONFIRMED',
    '… and no other batch''s'
);
select isnt(
    (select ordered_at from public.import_batches where id = tests.batch_of('A')), null, 'when it was ordered is noted'
);

select tests.place('B', p_cancelled_at => now());
select is(
    (select order_count from public.import_batches where id = tests.batch_of('A')), 1, 'a cancelled order does not count'
);
select tests.edit('import_batches', tests.batch_of('A'), 'status', 'arrived');
select results_eq(
    'select stage::text from public.order_delivery_status where order_code in (''A'', ''B'') order by order_code',
    '{ARRIVED,SOURCING}'::text [], 'arrived: its orders follow, but for the cancelled one'
);
select throws_like(
    $$ select tests.edit('import_batches', tests.batch_of('A'), 'status', 'inTransit') $$, '%cannot go back%',
    'a batch does not go back'
);
select throws_like(
    $$ select tests.edit('import_batches', tests.batch_of('A'), 'order_count', '9') $$, '%counted by the mirror%',
    'nobody counts for the mirror'
);
select throws_like(
    $$ delete from public.import_batches where id = tests.batch_of('A') $$, '%has orders%',
    'a batch with orders is not deleted'
);

select tests.edit(
    'order_batch_assignments', (select id from public.order_batch_assignments where vendure_order_id = 'id of C'),
    'batch_id', tests.batch_of('A')::text
);
select is(tests.batch_of('C'), tests.batch_of('A'), 'an order moves by its assignment');
select is(
    (select stage::text from public.order_delivery_status where order_code = 'C'), 'ARRIVED', '… and takes on its stage'
);
select tests.edit('customer_orders_summary', (
    select id from public.customer_orders_summary where order_code = 'C'
), 'batch_id', null);
select is((select count(*)::int from public.order_batch_assignments), 2, 'an order is pulled out by its own batch_id');
select is(tests.batch_of('C'), null, '… and then is in none');

select is(
    (select quantity from public.export_supplier_purchase_list(tests.batch_of('A'))), 1,
    'the purchase list has what is to be bought'
);
select tests.place('A', p_quantity => 3);
select results_eq(
    'select previous_quantity, quantity, change::text, cardinality(source_item_ids) '
    || 'from public.export_supplier_purchase_list(tests.batch_of(''A''))',
    'values (1, 3, ''changed'', 1)', 'a second export says what changed'
);

select tests.edit('import_batches', tests.batch_of('A'), 'status', 'completed');
select is(
    (select completion_percentage from public.get_batch_statistics(tests.batch_of('A'))), 100.0,
    'a completed batch is delivered'
);
select is(
    (select cancelled_orders from public.get_batch_statistics(tests.batch_of('A'))), 1::bigint,
    '… and its cancelled order is told of'
);
select throws_like(
    $$ delete from public.order_batch_assignments where batch_id = tests.batch_of('A') $$, '%completed%',
    'the orders of a completed batch stay in it'
);

select * from finish();
rollback;
