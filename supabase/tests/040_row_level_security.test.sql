-- Customers see their own rows; strangers see nothing; nobody but the service writes.

begin;
\ir helpers.psql
select plan(27);

\set owner '''00000000-0000-0000-0000-00000000000a'''
\set other '''00000000-0000-0000-0000-00000000000b'''
select tests.register('1', :owner);
select tests.register('2', :other);
select tests.place('A', '1');
select tests.place('B', '2');
select public.export_supplier_purchase_list(tests.batch_of('A'));

create function tests.count_of(p_table text) returns bigint
language plpgsql as $$
declare
    v_rows bigint;
begin
    execute format('select count(*) from public.%I', p_table) into v_rows;
    return v_rows;
end
$$;

create view tests.own_tables as
select unnest('{customers,customer_addresses,customer_orders_summary,customer_order_items,order_delivery_status,'
    'order_delivery_status_events,order_tracking}'::text []) as name;
create view tests.closed_tables as
select unnest('{stores,import_batches,order_batch_assignments,supplier_purchase_lists,otp_sessions}'::text []) as name;
grant select on tests.own_tables, tests.closed_tables to anon, authenticated;

select tests.authenticate_as(:owner);
select is(tests.count_of(name), 1::bigint, 'customers see their own of ' || name) from tests.own_tables;
select throws_ok(format('select tests.count_of(%L)', name), '42501', null, 'customers do not see ' || name) from tests.closed_tables;
select is((select order_code from public.customer_orders_summary), 'A', '… which is theirs');
select throws_ok('update public.customers set marketing_consent = true', '42501', null, 'they change nothing');
select throws_ok('delete from public.customer_orders_summary', '42501', null, '… and delete nothing');
select throws_ok('select public.generate_batch_number()', '42501', null, '… and call no function');
select throws_ok('select * from mirror.webhook_events', '42501', null, '… and the machinery is closed');

select tests.authenticate_as(
    '00000000-0000-0000-0000-00000000000c',
    '{"email": "customer1@example.com", "email_verified": false, "user_metadata": {"sub": "00000000-0000-0000-0000-00000000000a"}}'
);
select is(tests.count_of('customers'), 0::bigint, 'an e-mail in a token opens nothing, nor does user_metadata');
select is(tests.count_of('customer_orders_summary'), 0::bigint, '… no orders either');

select tests.act_as('anon');
select throws_ok(format('select tests.count_of(%L)', name), '42501', null, 'strangers do not see ' || name)
from tests.own_tables
where name in ('customers', 'customer_orders_summary', 'order_delivery_status', 'order_tracking');

select tests.act_as('service_role');
select is(tests.count_of('customers'), 2::bigint, 'the service sees all');
select lives_ok('select public.generate_batch_number()', '… and calls the functions');
select throws_ok('delete from mirror.audit_log', '42501', null, '… but does not rewrite the audit log');

select tests.act_as('postgres');
select is(tests.count_of('customers'), 2::bigint, 'so does an admin in Studio');

select * from finish();
rollback;
