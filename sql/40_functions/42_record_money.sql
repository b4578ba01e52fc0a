-- What a shop's order says of money and goods beyond its lines: payments, refunds, fulfilments, and its own history of states.

create type mirror.payment_columns as (
    order_source_id text [],
    source_id text [],
    method text [],
    amount numeric [],
    status public.payment_status [],
    source_status text [],
    transaction_id text [],
    failure_reason text [],
    initiated_at timestamptz []
);

create type mirror.refund_columns as (
    order_source_id text [],
    payment_source_id text [],
    source_id text [],
    amount numeric [],
    status public.refund_status [],
    source_status text [],
    reason text [],
    transaction_id text [],
    initiated_at timestamptz []
);

create type mirror.fulfillment_columns as (
    order_source_id text [],
    source_id text [],
    state text [],
    method text [],
    tracking_number text [],
    lines text [],
    fulfilled_at timestamptz []
);

create type mirror.order_event_columns as (
    order_source_id text [],
    source_id text [],
    from_state text [],
    to_state text [],
    changed_at timestamptz []
);

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
        id, store_id, order_summary_id, customer_id, source, source_id, source_version, transaction_id, provider_payment_id,
        method, amount, currency, status, failure_reason, initiated_at, shop_amount, shop_currency, shop_status,
        shop_state, shop_failure_reason
    )
    select
        l.id, p_store_id, l.order_id, l.customer_id, p_source, l.source_id, l.source_version, l.transaction_id, a.id, l.method,
        l.amount, l.currency, l.status, l.failure_reason, l.initiated_at, l.amount, l.currency, l.status,
        l.source_status, l.failure_reason
    from (
        select r.*, w.id as order_id, w.source_version, w.currency, w.customer_id
        from unnest(
            p_payments.order_source_id, p_payments.source_id, p_payments.method, p_payments.amount, p_payments.status,
            p_payments.source_status, p_payments.transaction_id, p_payments.failure_reason, p_payments.initiated_at,
            mirror.uuid_v7s(cardinality(p_payments.source_id))
        ) as r (
            order_source_id, source_id, method, amount, status, source_status, transaction_id, failure_reason, initiated_at, id
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

create function mirror.payments_alone(p_store_id uuid, p_ids text[]) returns text[]
language sql stable
set search_path = ''
as $$
    select coalesce(array_agg(i.id), '{}')
    from (
        select k.id
        from unnest(p_ids) as k (id)
        group by k.id
        having count(*) = 1
    ) as i
    where
        not exists (select from public.payments as p where p.store_id = p_store_id and p.provider_payment_id = i.id)
        and not exists (select from public.payments as p where p.store_id = p_store_id and p.transaction_id = i.id)
        and not exists (
            select from mirror.provider_refunds as t where t.store_id = p_store_id and t.payment_source_id = i.id
        )
        and not exists (
            select from mirror.provider_payments as t
            where t.store_id = p_store_id and t.source_id = i.id and t.source_version > '-infinity'
        )
$$;

comment on function mirror.payments_alone(uuid, text[]) is
'Which of these payments, which must be locked, nobody has told of before: whoever does now has nobody to meet.';
revoke execute on function mirror.payments_alone(uuid, text[]) from public;
grant execute on function mirror.payments_alone(uuid, text[]) to service_role;

create function mirror.replace_refunds(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_orders uuid[],
    p_refunds mirror.refund_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    insert into public.refunds as f (
        store_id, payment_id, order_summary_id, source, source_id, source_version, transaction_id, amount, currency, status,
        reason, initiated_at, shop_amount, shop_status, shop_state
    )
    select
        p_store_id, p.id, o.id, p_source, r.source_id, o.source_version, r.transaction_id, r.amount, o.currency, r.status,
        r.reason, r.initiated_at, r.amount, r.status, r.source_status
    from unnest(
        p_refunds.order_source_id, p_refunds.payment_source_id, p_refunds.source_id, p_refunds.amount, p_refunds.status,
        p_refunds.source_status, p_refunds.reason, p_refunds.transaction_id, p_refunds.initiated_at
    ) as r (
        order_source_id, payment_source_id, source_id, amount, status, source_status, reason, transaction_id, initiated_at
    )
    inner join public.customer_orders_summary as o
        on o.store_id = p_store_id and o.source = p_source and o.source_id = r.order_source_id
    inner join public.payments as p
        on p.order_summary_id = o.id and p.source = p_source and p.source_id = r.payment_source_id
    where o.id = any(p_orders)
    on conflict (payment_id, source, source_id) do update set
        order_summary_id = excluded.order_summary_id,
        source_version = excluded.source_version,
        transaction_id = excluded.transaction_id,
        amount = coalesce(f.provider_amount, excluded.amount),
        currency = coalesce(f.provider_currency, excluded.currency),
        status = coalesce(f.provider_status, excluded.status),
        reason = excluded.reason,
        initiated_at = excluded.initiated_at,
        shop_amount = excluded.shop_amount,
        shop_status = excluded.shop_status,
        shop_state = excluded.shop_state
    where f.source_version < excluded.source_version;
end
$$;

comment on function mirror.replace_refunds(uuid, public.commerce_engine, uuid[], mirror.refund_columns) is
'Writes what the shop says of the refunds of the orders p_orders, at the orders'' versions: part of record_money.';
revoke execute on function mirror.replace_refunds(uuid, public.commerce_engine, uuid[], mirror.refund_columns) from public;
grant execute on function mirror.replace_refunds(uuid, public.commerce_engine, uuid[], mirror.refund_columns)
to service_role;

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
    on conflict (order_summary_id, store_id, source_id) do update set
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
    insert into public.order_events as e (id, store_id, order_summary_id, source_id, from_state, to_state, changed_at)
    select l.id, p_store_id, l.order_id, l.source_id, l.from_state, l.to_state, l.changed_at
    from (
        select r.*, w.id as order_id
        from unnest(
            p_events.order_source_id, p_events.source_id, p_events.from_state, p_events.to_state, p_events.changed_at,
            mirror.uuid_v7s(cardinality(p_events.source_id))
        ) as r (order_source_id, source_id, from_state, to_state, changed_at, id)
        full join unnest(p_written.id, p_written.source_id) as w (id, order_source_id)
            on w.order_source_id = r.order_source_id
        offset 0
    ) as l
    where l.order_id is not null and l.source_id is not null
    on conflict (order_summary_id, store_id, source_id) do update set
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

create function mirror.remove_untold_money(
    p_source public.commerce_engine,
    p_orders uuid[],
    p_events mirror.order_event_columns
) returns void
language plpgsql
set search_path = ''
as $$
begin
    delete from public.refunds as f
    using public.customer_orders_summary as o
    where
        o.id = any(p_orders) and f.order_summary_id = o.id and f.source = p_source and f.source_version < o.source_version;
    delete from public.payments as p
    using public.customer_orders_summary as o
    where
        o.id = any(p_orders) and p.order_summary_id = o.id and p.source = p_source and p.source_version < o.source_version;
    delete from public.fulfillments as f
    using public.customer_orders_summary as o
    where o.id = any(p_orders) and f.order_summary_id = o.id and f.source_version < o.source_version;
    delete from public.order_events as e
    using public.customer_orders_summary as o
    where
        o.id = any(p_orders) and e.order_summary_id = o.id
        and (o.source_id, e.source_id) not in (
            select r.order_source_id, r.source_id
            from unnest(p_events.order_source_id, p_events.source_id) as r (order_source_id, source_id)
        );
end
$$;

comment on function mirror.remove_untold_money(public.commerce_engine, uuid[], mirror.order_event_columns) is
'Removes what the present states of the orders p_orders do not tell any more: part of record_money.';
revoke execute on function mirror.remove_untold_money(public.commerce_engine, uuid[], mirror.order_event_columns) from public;
grant execute on function mirror.remove_untold_money(public.commerce_engine, uuid[], mirror.order_event_columns)
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
