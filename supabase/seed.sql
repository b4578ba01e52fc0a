-- An example shop for a developer's local start (`supabase start`, `supabase db reset`): all people and orders are invented.
--
-- It goes through the mirror's own functions, as if Vendure had sent it and an admin had worked on it. Where there is any
-- customer already, it does nothing. Times count from now, so that the shop looks alive whenever it is loaded.

do $seed$
declare
    v_integration constant uuid := (select id from mirror.integrations where slug = 'vendure');
    v_first_batch uuid;
    v_first_telling boolean;
begin
    if exists (select from public.customers) then
        raise notice 'There are customers already: the example shop is left out.';
        return;
    end if;

    update public.stores set name = 'Signature Kits', batch_target_order_count = 5 where slug = 'default';

    create temporary table seed_customers on commit drop as
    select
        p.*, now() - interval '90 days' as registered_at,
        json_build_object('streetLine1', p.street, 'city', p.city, 'countryCode', 'LK') as address
    from (values
        ('c1', 'Nimal', 'Perera', '94770000101', true, true, '4/1 Temple Lane', 'Colombo 05'),
        ('c2', 'Sanduni', 'Fernando', '94770000102', true, true, '12 Beach Road', 'Negombo'),
        ('c3', 'Ashan', 'Silva', '94770000103', false, false, '88 Peradeniya Road', 'Kandy'),
        ('c4', 'Tharushi', 'Jayawardena', '94770000104', true, false, '7 Lighthouse Street', 'Galle'),
        ('c5', 'Kavin', 'Rajendran', '94770000105', true, true, '23 Hospital Road', 'Jaffna'),
        ('c6', 'Dilini', 'Wickramasinghe', '94770000106', false, false, '5 Lake Drive', 'Kurunegala')
    ) as p (id, first_name, last_name, phone, phone_verified, consents, street, city);

    perform mirror.upsert_customers(v_integration, jsonb_build_object(
        'customers', (
            select json_build_object(
                'source_id', json_agg(c.id), 'source_version', json_agg(c.registered_at),
                'email', json_agg(lower(c.first_name) || '@example.com'), 'phone_number', json_agg(c.phone),
                'phone_as_entered', json_agg('+' || c.phone), 'phone_verified', json_agg(c.phone_verified),
                'first_name', json_agg(c.first_name), 'last_name', json_agg(c.last_name),
                'has_account', json_agg(c.phone_verified), 'email_verified', json_agg(c.phone_verified),
                'marketing_consent', json_agg(c.consents), 'registered_at', json_agg(c.registered_at)
            )
            from seed_customers as c
        ),
        'addresses', (
            select json_build_object(
                'customer_source_id', json_agg(c.id), 'source_id', json_agg('a' || c.id),
                'address_type', json_agg('both'::text), 'is_default', json_agg(true),
                'full_name', json_agg(c.first_name || ' ' || c.last_name), 'street_line_1', json_agg(c.street),
                'city', json_agg(c.city), 'country_code', json_agg('LK'::text), 'country_name', json_agg('Sri Lanka'::text),
                'phone_number', json_agg(c.phone), 'phone_as_entered', json_agg('+' || c.phone)
            )
            from seed_customers as c
        )
    ));

    -- Pre-orders wait for a batch; the others are on the shelf and go their way at once, a stage every `pace`.
    create temporary table seed_orders on commit drop as
    select
        o.*, 'KIT' || lpad(o.id, 4, '0') as code, now() - make_interval(days => o.days_ago) as placed_at,
        p.unit_price * o.quantity as amount, p.name as product_name, p.name || ' ' || o.size as variant_name,
        p.sku || '-' || o.size as sku, p.unit_price
    from (values
        ('1', 'c1', 'SCARF', 'one', 1, 44, false, '2 days', 'DELIVERED', 'payhere', true, null, null),
        ('2', 'c3', 'SCARF', 'one', 2, 41, false, '3 days', 'DELIVERED', 'cash-on-delivery', true, null, null),
        ('3', 'c2', 'HOME', 'M', 1, 33, true, '10 days', 'DISPATCHED', 'payhere', true, 'PERERA', '7'),
        ('4', 'c1', 'HOME', 'L', 2, 32, true, '9 days', 'DISPATCHED', 'payhere', true, null, null),
        ('5', 'c4', 'AWAY', 'S', 1, 31, true, '10 days', 'ARRIVED', 'cash-on-delivery', false, 'THARU', '10'),
        ('6', 'c5', 'HOME', 'M', 1, 30, true, '9 days', 'ARRIVED', 'payhere', true, 'PERERA', '7'),
        ('7', 'c6', 'AWAY', 'M', 1, 30, true, '9 days', 'SOURCING', 'payhere', true, null, null),
        ('8', 'c5', 'SCARF', 'one', 1, 19, false, '2 days', 'DELIVERED', 'payhere', true, null, null),
        ('9', 'c2', 'HOME', 'XL', 1, 6, true, '1 day', 'ORDER_CONFIRMED', 'payhere', true, 'SANDU', '22'),
        ('10', 'c3', 'AWAY', 'M', 3, 4, true, '1 day', 'ORDER_CONFIRMED', 'payhere', false, null, null),
        ('11', 'c4', 'SCARF', 'one', 1, 3, false, '1 day', 'DISPATCHED', 'cash-on-delivery', false, null, null),
        ('12', 'c1', 'HOME', 'L', 1, 1, true, '1 day', 'ORDER_CONFIRMED', 'payhere', true, 'NIMAL', '9')
    ) as o (id, customer, product, size, quantity, days_ago, is_pre_order, pace, stage, method, is_paid, print_name, print_number)
    inner join (values
        ('HOME', 'Home Kit', 'KIT-HOME', 6500.00), ('AWAY', 'Away Kit', 'KIT-AWAY', 6500.00),
        ('SCARF', 'Scarf', 'SCARF', 1900.00)
    ) as p (product, name, sku, unit_price) on p.product = o.product;

    create temporary table seed_stages on commit drop as
    select
        o.id, s.stage, s.stages[s.step - 1] as from_stage, o.placed_at + (s.step - 1) * o.pace::interval as changed_at
    from seed_orders as o
    cross join (
        select e.stage, e.step::integer as step, enum_range(null::public.delivery_stage) as stages
        from unnest(enum_range(null::public.delivery_stage)) with ordinality as e (stage, step)
    ) as s
    where s.stage > 'ORDER_CONFIRMED' and s.stage <= o.stage::public.delivery_stage;

    -- Each order twice, as the shop would tell it: when it was placed, and as it is now.
    for v_first_telling in select unnest(array[true, false]) loop
        perform mirror.upsert_orders(v_integration, jsonb_build_object(
            'orders', (
                select json_build_object(
                    'source_id', json_agg(o.id),
                    'source_version', json_agg(case when v_first_telling then o.placed_at else now() end),
                    'customer_source_id', json_agg(o.customer), 'order_code', json_agg(o.code),
                    'order_state', json_agg(
                        case when v_first_telling or o.is_paid then 'PaymentSettled' else 'PaymentAuthorized' end
                    ),
                    'order_date', json_agg(o.placed_at),
                    'delivery_stage', json_agg(case when v_first_telling then 'ORDER_CONFIRMED' else o.stage end),
                    'tracking_number', json_agg(case
                        when o.stage in ('DISPATCHED', 'DELIVERED') and not v_first_telling and o.id <> '4'
                            then 'SLP-2000' || lpad(o.id, 2, '0')
                    end),
                    'carrier', json_agg(case when o.stage in ('DISPATCHED', 'DELIVERED') then 'Trans Express' end),
                    'payment_method', json_agg(o.method), 'currency', json_agg('LKR'::text), 'sub_total', json_agg(o.amount),
                    'shipping', json_agg(350.00), 'tax', json_agg(0), 'discount', json_agg(0),
                    'total', json_agg(o.amount + 350), 'total_with_tax', json_agg(o.amount + 350),
                    'total_paid', json_agg(case when o.is_paid then o.amount + 350 else 0 end),
                    'total_refunded', json_agg(case when o.id = '8' and not v_first_telling then 350 else 0 end),
                    'shipping_method', json_agg('Courier'::text), 'shipping_address', json_agg(c.address),
                    'billing_address', json_agg(c.address),
                    'contact_name', json_agg(c.first_name || ' ' || c.last_name), 'contact_phone', json_agg(c.phone),
                    'cancelled_at', json_agg(case when o.id = '7' and not v_first_telling then now() - interval '2 days' end)
                )
                from seed_orders as o
                inner join seed_customers as c on c.id = o.customer
            ),
            'items', (
                select json_build_object(
                    'order_source_id', json_agg(o.id), 'source_id', json_agg('l' || o.id), 'sku', json_agg(o.sku),
                    'product_name', json_agg(o.product_name), 'variant_name', json_agg(o.variant_name),
                    'quantity', json_agg(o.quantity), 'unit_price_with_tax', json_agg(o.unit_price),
                    'line_total_with_tax', json_agg(o.amount), 'patch_enabled', json_agg(o.print_name is not null),
                    'patch_type', json_agg(case when o.print_name is not null then 'league' end),
                    'print_name', json_agg(o.print_name), 'print_number', json_agg(o.print_number),
                    'is_pre_order', json_agg(o.is_pre_order)
                )
                from seed_orders as o
            ),
            'payments', (
                select json_build_object(
                    'order_source_id', json_agg(o.id), 'source_id', json_agg('p' || o.id), 'method', json_agg(o.method),
                    'amount', json_agg(o.amount + 350), 'status', json_agg(case when o.is_paid then 'paid' else 'authorized' end),
                    'source_status', json_agg(case when o.is_paid then 'Settled' else 'Authorized' end),
                    'initiated_at', json_agg(o.placed_at)
                )
                from seed_orders as o
            ),
            'refunds', case when v_first_telling then '{}'::json else (
                select json_build_object(
                    'order_source_id', json_agg(o.id), 'payment_source_id', json_agg('p' || o.id),
                    'source_id', json_agg('r' || o.id), 'amount', json_agg(350.00), 'status', json_agg('succeeded'::text),
                    'source_status', json_agg('Settled'::text), 'reason', json_agg('came late'::text),
                    'initiated_at', json_agg(o.placed_at + interval '9 days')
                )
                from seed_orders as o
                where o.id = '8'
            ) end,
            'fulfillments', case when v_first_telling then '{}'::json else (
                select json_build_object(
                    'order_source_id', json_agg(o.id), 'source_id', json_agg('f' || o.id),
                    'state', json_agg(case o.stage when 'DELIVERED' then 'Delivered' else 'Shipped' end),
                    'method', json_agg('Trans Express'::text), 'fulfilled_at', json_agg(o.placed_at + interval '1 day')
                )
                from seed_orders as o
                where o.stage in ('DISPATCHED', 'DELIVERED')
            ) end,
            'order_events', (
                select json_build_object(
                    'order_source_id', json_agg(o.id), 'source_id', json_agg('h' || o.id),
                    'from_state', json_agg('ArrangingPayment'::text),
                    'to_state', json_agg(case when o.is_paid then 'PaymentSettled' else 'PaymentAuthorized' end),
                    'changed_at', json_agg(o.placed_at)
                )
                from seed_orders as o
            ),
            'stages', case when v_first_telling then '{}'::json else (
                select json_build_object(
                    'order_source_id', json_agg(s.id), 'source_id', json_agg(s.id || ' ' || s.stage),
                    'from_stage', json_agg(s.from_stage), 'stage', json_agg(s.stage), 'changed_at', json_agg(s.changed_at)
                )
                from seed_stages as s
            ) end
        ));
    end loop;

    -- What an admin has done since: ordered the first batch from the supplier, and received it.
    select b.id into strict v_first_batch from public.import_batches as b order by b.batch_number limit 1;
    update public.import_batches set name = 'First kits of the season' where id = v_first_batch;
    perform public.export_supplier_purchase_list(v_first_batch);
    update public.import_batches set status = 'orderedFromSupplier' where id = v_first_batch;
    update public.import_batches set status = 'inTransit' where id = v_first_batch;
    update public.import_batches set status = 'arrived' where id = v_first_batch;
    update public.import_batches
    set
        ordered_at = now() - interval '24 days', in_transit_at = now() - interval '20 days',
        arrived_at = now() - interval '13 days'
    where id = v_first_batch;
    perform public.update_order_delivery_status('KIT0006', 'ARRIVED', null, 'Printing is done, leaves tomorrow', 'Ruwan');
    perform mirror.refresh_delivery_norms();
end
$seed$;
