-- What an order says of money takes what it needs of the order from the slice, instead of looking it up again.

alter type mirror.written_orders add attribute customer_id uuid [];

drop function mirror.record_money(uuid, public.commerce_engine, uuid[], jsonb);
drop function mirror.replace_payments(uuid, public.commerce_engine, uuid[], mirror.payment_columns, text[]);
drop function mirror.replace_fulfillments(uuid, public.commerce_engine, uuid[], mirror.fulfillment_columns);
drop function mirror.add_order_events(uuid, public.commerce_engine, uuid[], mirror.order_event_columns);

create function mirror.replace_payments(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_written mirror.written_orders,
    p_payments mirror.payment_columns,
    p_alone text[]
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.payments as p (
        store_id, order_summary_id, customer_id, source, source_id, source_version, transaction_id, provider_payment_id,
        method, amount, currency, status, failure_reason, initiated_at, shop_amount, shop_currency, shop_status,
        shop_state, shop_failure_reason
    )
    select
        p_store_id, l.order_id, l.customer_id, p_source, l.source_id, l.source_version, l.transaction_id, a.id, l.method,
        l.amount, l.currency, l.status, l.failure_reason, l.initiated_at, l.amount, l.currency, l.status,
        l.source_status, l.failure_reason
    from (
        select r.*, w.id as order_id, w.source_version, w.currency, w.customer_id
        from unnest(
            p_payments.order_source_id, p_payments.source_id, p_payments.method, p_payments.amount, p_payments.status,
            p_payments.source_status, p_payments.transaction_id, p_payments.failure_reason, p_payments.initiated_at
        ) as r (
            order_source_id, source_id, method, amount, status, source_status, transaction_id, failure_reason, initiated_at
        )
        full join unnest(
            p_written.id, p_written.source_id, p_written.source_version, p_written.currency, p_written.customer_id
        ) as w (id, order_source_id, source_version, currency, customer_id) on w.order_source_id = r.order_source_id
        offset 0 -- hashed, see mirror.replace_order_items
    ) as l
    left join unnest(p_alone) as a (id) on a.id = l.transaction_id
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, source, source_id) do update set
        customer_id = excluded.customer_id,
        source_version = excluded.source_version,
        transaction_id = excluded.transaction_id,
        method = excluded.method,
        -- What the provider says stands: mirror.meet_payments looks at both.
        amount = coalesce(p.provider_amount, excluded.amount),
        currency = coalesce(p.provider_currency, excluded.currency),
        status = coalesce(p.provider_status, excluded.status),
        failure_reason = case when p.provider_status is null then excluded.failure_reason else p.failure_reason end,
        initiated_at = excluded.initiated_at,
        shop_amount = excluded.shop_amount,
        shop_currency = excluded.shop_currency,
        shop_status = excluded.shop_status,
        shop_state = excluded.shop_state,
        shop_failure_reason = excluded.shop_failure_reason
    where p.source_version < excluded.source_version;
end
$$;

comment on function mirror.replace_payments(
    uuid, public.commerce_engine, mirror.written_orders, mirror.payment_columns, text[]
) is
'Writes what the shop says of the payments of the orders p_written, at the orders'' versions: part of record_money. p_alone: of '
'mirror.payments_alone.';
revoke execute on function mirror.replace_payments(
    uuid, public.commerce_engine, mirror.written_orders, mirror.payment_columns, text[]
) from public;
grant execute on function mirror.replace_payments(
    uuid, public.commerce_engine, mirror.written_orders, mirror.payment_columns, text[]
) to service_role;

create function mirror.replace_fulfillments(
    p_store_id uuid,
    p_written mirror.written_orders,
    p_fulfillments mirror.fulfillment_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.fulfillments as f (
        store_id, order_summary_id, source_id, source_version, state, method, tracking_number, lines, fulfilled_at
    )
    select
        p_store_id, l.order_id, l.source_id, l.source_version, l.state, l.method, l.tracking_number,
        coalesce(l.lines::jsonb, '[]'), l.fulfilled_at
    from (
        select r.*, w.id as order_id, w.source_version
        from unnest(
            p_fulfillments.order_source_id, p_fulfillments.source_id, p_fulfillments.state, p_fulfillments.method,
            p_fulfillments.tracking_number, p_fulfillments.lines, p_fulfillments.fulfilled_at
        ) as r (order_source_id, source_id, state, method, tracking_number, lines, fulfilled_at)
        full join unnest(p_written.id, p_written.source_id, p_written.source_version)
            as w (id, order_source_id, source_version) on w.order_source_id = r.order_source_id
        offset 0
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, source_id) do update set
        source_version = excluded.source_version,
        state = excluded.state,
        method = excluded.method,
        tracking_number = excluded.tracking_number,
        lines = excluded.lines,
        fulfilled_at = excluded.fulfilled_at
    where f.source_version < excluded.source_version;
end
$$;

comment on function mirror.replace_fulfillments(uuid, mirror.written_orders, mirror.fulfillment_columns) is
'Writes the fulfilments of the orders p_written, at the orders'' versions: part of record_money.';
revoke execute on function mirror.replace_fulfillments(uuid, mirror.written_orders, mirror.fulfillment_columns)
from public;
grant execute on function mirror.replace_fulfillments(uuid, mirror.written_orders, mirror.fulfillment_columns)
to service_role;

create function mirror.add_order_events(
    p_store_id uuid,
    p_written mirror.written_orders,
    p_events mirror.order_event_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.order_events as e (store_id, order_summary_id, source_id, from_state, to_state, changed_at)
    select p_store_id, l.order_id, l.source_id, l.from_state, l.to_state, l.changed_at
    from (
        select r.*, w.id as order_id
        from unnest(
            p_events.order_source_id, p_events.source_id, p_events.from_state, p_events.to_state, p_events.changed_at
        ) as r (order_source_id, source_id, from_state, to_state, changed_at)
        full join unnest(p_written.id, p_written.source_id) as w (id, order_source_id)
            on w.order_source_id = r.order_source_id
        offset 0
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, source_id) do update set
        from_state = excluded.from_state,
        to_state = excluded.to_state,
        changed_at = excluded.changed_at
    where (e.from_state, e.to_state, e.changed_at) is distinct from (excluded.from_state, excluded.to_state, excluded.changed_at);
end
$$;

comment on function mirror.add_order_events(uuid, mirror.written_orders, mirror.order_event_columns) is
'Writes the history of states of the orders p_written: part of record_money.';
revoke execute on function mirror.add_order_events(uuid, mirror.written_orders, mirror.order_event_columns)
from public;
grant execute on function mirror.add_order_events(uuid, mirror.written_orders, mirror.order_event_columns)
to service_role;

create function mirror.record_money(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_written mirror.written_orders,
    p_records jsonb
) returns void
language plpgsql
set search_path = ''
as $$
declare
    v_payments constant mirror.payment_columns
        := jsonb_populate_record(null::mirror.payment_columns, p_records -> 'payments');
    v_refunds constant mirror.refund_columns
        := jsonb_populate_record(null::mirror.refund_columns, p_records -> 'refunds');
    v_fulfillments constant mirror.fulfillment_columns
        := jsonb_populate_record(null::mirror.fulfillment_columns, p_records -> 'fulfillments');
    v_events constant mirror.order_event_columns
        := jsonb_populate_record(null::mirror.order_event_columns, p_records -> 'order_events');
    v_named constant text[] := array(
        select i.id from unnest(v_payments.transaction_id) as i (id) where i.id ~ '^(pi|ch|py)_'
    );
    v_alone text[] := '{}';
    v_known uuid[];
    v_met text[];
begin
    -- Orders of which something was told before.
    v_known := array(
        select o.id
        from unnest(p_written.id, p_written.is_new) as o (id, is_new)
        where
            not o.is_new
            and (
                exists (select from public.payments as p where p.order_summary_id = o.id)
                or exists (select from public.order_events as e where e.order_summary_id = o.id)
                or exists (select from public.fulfillments as f where f.order_summary_id = o.id)
            )
    );
    if cardinality(v_named) > 0 then
        perform mirror.lock_provider_payments(p_store_id, v_named);
        v_alone := mirror.payments_alone(p_store_id, v_named);
    end if;
    v_met := array(
        select i.id from unnest(v_named) as i (id)
        except
        select a.id from unnest(v_alone) as a (id)
        union
        select p.provider_payment_id
        from public.payments as p
        where p.order_summary_id = any(v_known) and p.provider_payment_id is not null
    ) || mirror.provider_payments_of(p_store_id, p_written.id);

    if cardinality(v_payments.source_id) > 0 then
        perform mirror.replace_payments(p_store_id, p_source, p_written, v_payments, v_alone);
        v_met := v_met || array( -- what was here already and has another id by now
            select p.transaction_id
            from public.payments as p
            where
                p.order_summary_id = any(v_known) and p.transaction_id = any(v_named)
                and p.provider_payment_id is distinct from p.transaction_id
        );
    end if;
    if cardinality(v_refunds.source_id) > 0 then
        perform mirror.replace_refunds(p_store_id, p_source, p_written.id, v_refunds);
    end if;
    if cardinality(v_fulfillments.source_id) > 0 then
        perform mirror.replace_fulfillments(p_store_id, p_written, v_fulfillments);
    end if;
    if cardinality(v_events.source_id) > 0 then
        perform mirror.add_order_events(p_store_id, p_written, v_events);
    end if;
    if cardinality(v_known) > 0 then
        perform mirror.remove_untold_money(p_source, v_known, v_events);
    end if;
    if cardinality(v_refunds.source_id) > 0 or cardinality(v_known) > 0 then
        perform mirror.sum_refunds(array(
            select p.id
            from public.payments as p
            where
                p.order_summary_id = any(p_written.id)
                and (p.amount_refunded <> 0 or exists (select from public.refunds as f where f.payment_id = p.id))
        ));
    end if;
    if cardinality(v_met) > 0 then
        perform mirror.meet_payments(p_store_id, v_met);
    end if;
    if cardinality(v_known) > 0 then
        -- A payment that moved to another order took its refunds with it.
        perform mirror.count_refunded_outside(array(
            select o.id from public.customer_orders_summary as o where o.id = any(v_known) and o.refunded_outside <> 0
        ));
    end if;
    if exists (select from public.invoices as i where i.store_id = p_store_id) then
        perform mirror.link_invoices(p_store_id, array(
            select i.id from public.invoices as i where i.order_summary_id = any(p_written.id)
            union
            select i.id from public.invoices as i where i.store_id = p_store_id and i.payment_source_id = any(v_named || v_met)
            union
            select i.id
            from public.customer_orders_summary as o
            inner join public.invoices as i on i.store_id = p_store_id and i.order_code = o.order_code
            where o.id = any(p_written.id)
            union
            select i.id
            from public.customer_orders_summary as o
            inner join public.invoices as i on i.store_id = p_store_id and i.order_source_id = o.source_id
            where o.id = any(p_written.id)
        ));
    end if;
end
$$;

comment on function mirror.record_money(uuid, public.commerce_engine, mirror.written_orders, jsonb) is
'Makes payments, refunds, fulfilments and the history of states what the orders p_written tell of them: part of upsert_orders. '
'p_records: {"payments": {column: [..]}, "refunds", "fulfillments", "order_events"} with the columns of '
'mirror.payment_columns, mirror.refund_columns, mirror.fulfillment_columns and mirror.order_event_columns.';
revoke execute on function mirror.record_money(uuid, public.commerce_engine, mirror.written_orders, jsonb) from public;
grant execute on function mirror.record_money(uuid, public.commerce_engine, mirror.written_orders, jsonb) to service_role;

create or replace function mirror.upsert_orders(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_orders mirror.order_columns
        := jsonb_populate_record(null::mirror.order_columns, p_records -> 'orders');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_items mirror.item_columns
        := jsonb_populate_record(null::mirror.item_columns, p_records -> 'items');
    v_written mirror.written_orders;
    v_actor text;
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    if v_orders.source_id is null or v_orders.source_id = '{}' then
        return 0;
    end if;
    v_actor := mirror.act_as('engine:' || v_source);
    perform mirror.take_turn();

    -- An order may arrive before its customer: a bare reference waits for the customer's own state.
    insert into public.customers (store_id, source, source_id, source_version, is_active)
    select v_store_id, v_source, named.source_id, '-infinity', true
    from (
        select distinct r.source_id
        from unnest(v_orders.customer_source_id) as r (source_id)
        where r.source_id is not null
    ) as named
    left join lateral (
        select true as is_there
        from public.customers as c
        where c.store_id = v_store_id and c.source = v_source and c.source_id = named.source_id
        offset 0 -- one look-up each, see mirror.replace_order_items
    ) as known on true
    where known.is_there is null
    order by named.source_id
    on conflict (store_id, source, source_id) do nothing;

    -- What an order takes from its customer must not change before the order is there to be changed with it.
    perform mirror.lock_customers(v_store_id, v_source, v_orders.customer_source_id);

    with written as (
        insert into public.customer_orders_summary as o (
            store_id, source, source_id, source_version, customer_id, order_code, order_state, order_date,
            delivery_stage, tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total,
            total_with_tax, total_paid, total_refunded, coupon_codes, shipping_method, shipping_address,
            billing_address, contact_name, contact_phone, contact_email, custom_fields, cancelled_at,
            source_delivery_stage, source_tracking_number, source_hash
        )
        select
            v_store_id, v_source, r.source_id, r.source_version, c.id, r.order_code, r.order_state, r.order_date,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.payment_method, r.currency,
            r.sub_total, r.shipping, r.tax, r.discount, r.total, r.total_with_tax, r.total_paid,
            r.total_refunded, array(select json_array_elements_text(r.coupon_codes::json)),
            r.shipping_method, r.shipping_address, r.billing_address, r.contact_name, r.contact_phone,
            coalesce(lower(r.contact_email), c.email),
            coalesce(r.custom_fields, '{}'), r.cancelled_at,
            coalesce(r.delivery_stage, 'ORDER_CONFIRMED'), r.tracking_number, r.source_hash
        from unnest(
            v_orders.source_id, v_orders.source_version, v_orders.customer_source_id, v_orders.order_code,
            v_orders.order_state, v_orders.order_date, v_orders.delivery_stage, v_orders.tracking_number,
            v_orders.payment_method, v_orders.currency, v_orders.sub_total, v_orders.shipping, v_orders.tax,
            v_orders.discount, v_orders.total, v_orders.total_with_tax, v_orders.total_paid,
            v_orders.total_refunded, v_orders.coupon_codes, v_orders.shipping_method, v_orders.shipping_address,
            v_orders.billing_address, v_orders.contact_name, v_orders.contact_phone, v_orders.contact_email,
            v_orders.custom_fields, v_orders.cancelled_at, v_orders.source_hash
        ) as r (
            source_id, source_version, customer_source_id, order_code, order_state, order_date, delivery_stage,
            tracking_number, payment_method, currency, sub_total, shipping, tax, discount, total, total_with_tax,
            total_paid, total_refunded, coupon_codes, shipping_method, shipping_address, billing_address,
            contact_name, contact_phone, contact_email, custom_fields, cancelled_at, source_hash
        )
        left join lateral (
            select k.id, k.email
            from public.customers as k
            where k.store_id = v_store_id and k.source = v_source and k.source_id = r.customer_source_id
            offset 0 -- one look-up each, see mirror.replace_order_items
        ) as c on true
        order by r.source_id
        on conflict (store_id, source, source_id) do update set
            source_version = excluded.source_version,
            customer_id = excluded.customer_id,
            order_code = excluded.order_code,
            order_state = excluded.order_state,
            order_date = excluded.order_date,
            payment_method = excluded.payment_method,
            currency = excluded.currency,
            sub_total = excluded.sub_total,
            shipping = excluded.shipping,
            tax = excluded.tax,
            discount = excluded.discount,
            total = excluded.total,
            total_with_tax = excluded.total_with_tax,
            total_paid = excluded.total_paid,
            total_refunded = excluded.total_refunded,
            coupon_codes = excluded.coupon_codes,
            shipping_method = excluded.shipping_method,
            shipping_address = excluded.shipping_address,
            billing_address = excluded.billing_address,
            contact_name = excluded.contact_name,
            contact_phone = excluded.contact_phone,
            contact_email = excluded.contact_email,
            custom_fields = excluded.custom_fields,
            cancelled_at = excluded.cancelled_at,
            source_hash = excluded.source_hash,
            -- A deletion that is newer than this state stands: a late update cannot resurrect.
            deleted_at = case when o.deleted_at > excluded.source_version then o.deleted_at end
        where o.source_version < excluded.source_version
        returning o.id, o.source_id, o.source_version, o.currency, o.xmax = 0 as is_new, o.customer_id
    )
    select array_agg(w.id), array_agg(w.source_id), array_agg(w.source_version), array_agg(w.currency::text),
        array_agg(w.is_new), array_agg(w.customer_id)
    into v_written
    from written as w;

    if v_written.id is null then
        perform mirror.act_as(v_actor);
        return 0;
    end if;
    perform mirror.replace_order_items(v_store_id, v_written, v_items);
    perform mirror.record_delivery(
        v_store_id, v_source, v_written, v_orders, jsonb_populate_record(null::mirror.stage_columns, p_records -> 'stages')
    );
    perform mirror.record_money(v_store_id, v_source, v_written, p_records);
    -- Most stores batch no order but those with a pre-order among their lines.
    if true = any(v_items.is_pre_order) or exists (
        select from public.stores as s where s.id = v_store_id and s.batches_all_orders
    ) then
        perform mirror.batch_pre_orders(v_written.id);
    end if;
    perform mirror.act_as(v_actor);
    return cardinality(v_written.id);
end
$$;
