-- The tables, columns, types, functions and indexes of the data model are there, with exactly its names.

begin;
\ir helpers.psql
select plan(50);

create view tests.columns as
select table_name::text, column_name::text from information_schema.columns where table_schema = 'public';

prepare missing (text, text []) as
select unnest($2) except select c.column_name from tests.columns as c where c.table_name = $1;

select is_empty(format('execute missing(%L, %L)', t.name, t.columns), t.name || ' has its columns')
from (values
    ('customers', '{vendure_customer_id,email,phone_number,phone_verified,total_orders,total_spent,last_order_date,'
        || 'marketing_consent,custom_fields,spent_by_currency,auth_user_id,is_active}'),
    ('customer_addresses', '{customer_id,vendure_address_id,address_type,is_default}'),
    ('customer_orders_summary', '{customer_id,vendure_order_id,order_code,delivery_stage,payment_method,total_with_tax,'
        || 'batch_id,tracking_number,order_date,currency,cancelled_at}'),
    ('customer_order_items', '{order_summary_id,product_name,variant_name,quantity,unit_price_with_tax,patch_enabled,'
        || 'patch_type,print_name,print_number,sku}'),
    ('import_batches', '{batch_number,status,target_order_count,order_count,name,notes}'),
    ('order_batch_assignments', '{vendure_order_id,batch_id}'),
    ('supplier_purchase_lists', '{batch_id,product_sku,variant_sku,quantity,patch_enabled,patch_type,print_name,'
        || 'print_number,export_number,source_item_ids}'),
    ('order_delivery_status', '{order_code,stage,tracking_number,updated_at,carrier,note,updated_by,eta}'),
    ('order_delivery_status_events', '{order_code,stage,updated_at,from_stage,tracking_number,note,updated_by,actor}'),
    ('otp_sessions', '{phone,otp_hash,session_id,verified,attempts,expires_at}'),
    ('order_tracking', '{vendure_order_id,tracking_number,carrier,status}')
) as t (name, columns);

select enum_has_labels(
    'public', 'delivery_stage', '{ORDER_CONFIRMED,SOURCING,ARRIVED,DISPATCHED,DELIVERED}', 'the five stages, in order'
);
select enum_has_labels(
    'public', 'batch_status', '{collecting,orderedFromSupplier,inTransit,arrived,dispatched,completed}',
    'the six statuses of a batch, in order'
);
select enum_has_labels('public', 'address_type', '{shipping,billing,both}', 'what an address is for');

prepare parameters (text) as
select (p.proargnames[:p.pronargs])::text collate "default" from pg_proc as p where p.pronamespace = 'public'::regnamespace and p.proname = $1;

select results_eq(
    format('execute parameters(%L)', f.name), format('values (%L::text)', f.parameters), f.name || ' and its parameters'
)
from (values
    ('update_customer_statistics', '{customer_id}'),
    ('update_order_delivery_status', '{order_code,stage,tracking_number,note,updated_by}'),
    ('get_batch_statistics', '{batch_uuid}'),
    ('export_supplier_purchase_list', '{batch_uuid}'),
    ('get_delivery_statistics', '{from,to}')
) as f (name, parameters);
select has_function('public', 'generate_batch_number', '{}'::name [], 'generate_batch_number()');
select has_function('public', 'cleanup_expired_otps', '{}'::name [], 'cleanup_expired_otps()');

-- A column leads an index if it is the first, or the first after the store.
create view tests.indexed as
select i.indrelid::regclass::text as table_name, a.attname::text as column_name
from pg_index as i
cross join lateral unnest(i.indkey::int2 []) with ordinality as k (attnum, place)
inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
where
    k.place = 1 or (k.place = 2 and (
        select s.attname from pg_attribute as s where s.attrelid = i.indrelid and s.attnum = i.indkey[0]
    ) = 'store_id');

select is_empty($$
    select * from (values
        ('customers', 'vendure_customer_id'), ('customers', 'email'), ('customers', 'phone_number'),
        ('customer_orders_summary', 'customer_id'), ('customer_orders_summary', 'order_code'),
        ('customer_orders_summary', 'order_date'), ('customer_orders_summary', 'delivery_stage'),
        ('order_delivery_status', 'order_code'), ('order_delivery_status', 'stage'),
        ('otp_sessions', 'phone'), ('otp_sessions', 'session_id'), ('otp_sessions', 'expires_at')
    ) as wanted
    except select table_name, column_name from tests.indexed
$$, 'the indexes of the data model');

select is_empty($$
    select o.conrelid::regclass::text, o.conname::text
    from pg_constraint as o
    where
        o.contype = 'f' and o.connamespace::regnamespace::text in ('public', 'mirror')
        and not exists (
            select from pg_index as i
            inner join pg_attribute as s on s.attrelid = i.indrelid and s.attnum = i.indkey[0]
            where
                i.indrelid = o.conrelid
                and (
                    (i.indkey::int2 [])[0:cardinality(o.conkey) - 1] = o.conkey
                    or s.attname = 'store_id' and (i.indkey::int2 [])[1:cardinality(o.conkey)] = o.conkey
                )
        )
$$, 'every foreign key has an index');

select is_empty($$
    select relname::text from pg_class
    where relnamespace in ('public'::regnamespace, 'mirror'::regnamespace) and relkind = 'r'
        and not (relrowsecurity and relforcerowsecurity)
$$, 'every table has row-level security, for its owner too');

select is_empty($$
    select relname::text from pg_class as c
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'v') and obj_description(c.oid) is null
$$, 'every table and view says what it is for');

select is_empty($$
    select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace in ('public'::regnamespace, 'mirror'::regnamespace)
        and not coalesce(p.proconfig @> array['search_path=""'], false)
$$, 'every function sets its search_path');

select is_empty($$
    select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace in ('public'::regnamespace, 'mirror'::regnamespace)
        and (has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute'))
$$, 'customers and strangers execute none of them');

select fk_ok('public', f.child, f.key, 'public', f.parent, 'id', f.child || '.' || f.key || ' leads to ' || f.parent)
from (values
    ('customer_orders_summary', 'customer_id', 'customers'),
    ('customer_orders_summary', 'batch_id', 'import_batches'),
    ('order_batch_assignments', 'order_summary_id', 'customer_orders_summary'),
    ('order_batch_assignments', 'batch_id', 'import_batches'),
    ('supplier_purchase_lists', 'batch_id', 'import_batches')
) as f (child, key, parent);

-- A part is in the store of the whole.
select fk_ok(
    'public', f.child, array[f.key, 'store_id']::name [], 'public', f.parent, '{id,store_id}'::name [],
    f.child || '.' || f.key || ' leads to ' || f.parent || ' of the same store'
)
from (values
    ('customer_addresses', 'customer_id', 'customers'),
    ('customer_order_items', 'order_summary_id', 'customer_orders_summary'),
    ('fulfillments', 'order_summary_id', 'customer_orders_summary'),
    ('order_events', 'order_summary_id', 'customer_orders_summary'),
    ('order_delivery_status', 'order_summary_id', 'customer_orders_summary'),
    ('order_delivery_status_events', 'order_summary_id', 'customer_orders_summary')
) as f (child, key, parent);

-- Natural keys are unique in each store.
select col_is_unique('public', k.name, k.columns::name [], k.name || ': ' || k.columns)
from (values
    ('customers', '{store_id,source,source_id}'),
    ('customer_addresses', '{store_id,source,source_id}'),
    ('customer_orders_summary', '{store_id,source,source_id}'),
    ('import_batches', '{store_id,batch_number}')
) as k (name, columns);
select index_is_unique(
    'public', 'customer_orders_summary', 'customer_orders_summary_order_code', 'a code is one order''s, deleted ones aside'
);
select has_index(
    'public', 'order_delivery_status', 'order_delivery_status_order_code', '{store_id,order_code}'::name [],
    'a delivery is found by its order''s code'
);

prepare open_session (text, int) as
insert into public.otp_sessions (session_id, phone, purpose, otp_hash, attempts, expires_at)
values ('a session', '94771234567', 'tracking', $1, $2, now());
select throws_ok('execute open_session(''123456'', 0)', '23514', null, 'a code is never stored as it is, only its bcrypt hash');
select throws_ok('execute open_session(''$2b$12$…'', -1)', '23514', null, 'attempts are counted from 0');
select throws_ok(
    'select ''+94771234567''::public.phone_digits', '23514', null,
    'a phone number is digits with country code, and no plus'
);
select col_is_unique('public', 'otp_sessions', 'session_id', 'an OTP session has a name of its own');
select col_is_unique(
    'public', 'order_delivery_status', '{order_summary_id,store_id}'::name [], 'an order has one delivery status'
);
select ok(
    (select reloptions @> '{security_invoker=true}' from pg_class where oid = 'public.order_tracking'::regclass),
    'order_tracking shows what its reader may see'
);

select * from finish();
rollback;
