-- What a payment provider tells. Of two states the newer counts; of two of the same moment (Stripe's clock shows seconds) the one
-- with the greater source_order; a deletion outlives the states of its moment.

create type mirror.money_deletion_columns as (
    entity text [],
    source_id text [],
    source_version timestamptz []
);

create function mirror.delete_money(
    p_store_id uuid,
    p_source public.commerce_engine,
    p_entity text,
    p_deletions mirror.money_deletion_columns
) returns text[]
language plpgsql
set search_path = ''
as $$
declare
    v_table constant text := case p_entity
        when 'payment' then 'mirror.provider_payments'
        when 'refund' then 'mirror.provider_refunds'
        when 'plan' then 'public.subscription_plans'
        when 'subscription' then 'public.subscriptions'
        when 'invoice' then 'public.invoices'
    end;
    v_deleted text[] := '{}';
begin
    if p_entity = any(p_deletions.entity) then
        execute format(
            'with deleted as (
                insert into %s as t (store_id, source, source_id, source_version, deleted_at)
                select $1, $2, r.source_id, ''-infinity'', max(r.source_version)
                from unnest($3, $4, $5) as r (entity, source_id, source_version)
                where r.entity = $6
                group by r.source_id
                order by r.source_id
                on conflict (store_id, source, source_id) do update set deleted_at = excluded.deleted_at
                where t.source_version <= excluded.deleted_at and coalesce(t.deleted_at < excluded.deleted_at, true)
                returning t.source_id
            )
            select coalesce(array_agg(d.source_id), ''{}'') from deleted as d', v_table
        )
        into v_deleted
        using p_store_id, p_source, p_deletions.entity, p_deletions.source_id, p_deletions.source_version, p_entity;
    end if;
    return v_deleted;
end
$$;

comment on function mirror.delete_money(uuid, public.commerce_engine, text, mirror.money_deletion_columns) is
'Marks payments, refunds, plans, subscriptions or invoices deleted where nothing newer is known; returns their ids. One that was '
'never seen gets a tombstone: part of upsert_money.';
revoke execute on function mirror.delete_money(uuid, public.commerce_engine, text, mirror.money_deletion_columns) from public;
grant execute on function mirror.delete_money(uuid, public.commerce_engine, text, mirror.money_deletion_columns)
to service_role;

create function mirror.has_money(p_records jsonb) returns boolean
language sql immutable
set search_path = ''
as $$
    select p_records ?| '{provider_payments,provider_refunds,subscription_plans,subscriptions,invoices,deleted_money}'
$$;

comment on function mirror.has_money(jsonb) is 'Whether records, as apply_records takes them, hold something for upsert_money.';
revoke execute on function mirror.has_money(jsonb) from public;
grant execute on function mirror.has_money(jsonb) to service_role;

create function mirror.upsert_money(p_integration_id uuid, p_records jsonb) returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deletions constant mirror.money_deletion_columns
        := jsonb_populate_record(null::mirror.money_deletion_columns, p_records -> 'deleted_money');
    v_store_id uuid;
    v_source public.commerce_engine;
    v_actor text;
    v_payments text[];
    v_refunds text[];
    v_plans text[];
    v_subscriptions text[];
    v_invoices text[];
begin
    select store_id, engine into strict v_store_id, v_source
    from mirror.integrations
    where id = p_integration_id;
    v_actor := mirror.act_as('engine:' || v_source);
    -- Alone: an order that is being written now would not see that a payment waits for it, nor be seen from here.
    perform mirror.take_turn(p_together => false);

    v_payments := mirror.upsert_provider_payments(
        v_store_id, v_source, jsonb_populate_record(null::mirror.provider_payment_columns, p_records -> 'provider_payments')
    ) || mirror.delete_money(v_store_id, v_source, 'payment', v_deletions);
    v_refunds := mirror.upsert_provider_refunds(
        v_store_id, v_source, jsonb_populate_record(null::mirror.provider_refund_columns, p_records -> 'provider_refunds')
    ) || mirror.delete_money(v_store_id, v_source, 'refund', v_deletions);
    v_plans := mirror.upsert_plans(
        v_store_id, v_source, jsonb_populate_record(null::mirror.plan_columns, p_records -> 'subscription_plans')
    ) || mirror.delete_money(v_store_id, v_source, 'plan', v_deletions);
    v_subscriptions := mirror.upsert_subscriptions(
        v_store_id, v_source, jsonb_populate_record(null::mirror.subscription_columns, p_records -> 'subscriptions')
    ) || mirror.delete_money(v_store_id, v_source, 'subscription', v_deletions);
    v_invoices := mirror.upsert_invoices(
        v_store_id, v_source, jsonb_populate_record(null::mirror.invoice_columns, p_records -> 'invoices')
    ) || mirror.delete_money(v_store_id, v_source, 'invoice', v_deletions);

    perform mirror.meet_payments(v_store_id, v_payments || array(
        select t.payment_source_id
        from mirror.provider_refunds as t
        where
            t.store_id = v_store_id and t.source = v_source and t.source_id = any(v_refunds) and t.payment_source_id is not null
    ));
    perform mirror.link_subscriptions(v_store_id, array(
        select s.id
        from public.subscriptions as s
        where
            s.store_id = v_store_id and s.source = v_source
            and (s.source_id = any(v_subscriptions) or s.plan_source_id = any(v_plans))
    ));
    perform mirror.link_invoices(v_store_id, array(
        select i.id
        from public.invoices as i
        where
            i.store_id = v_store_id and i.source = v_source
            and (
                i.source_id = any(v_invoices) or i.subscription_source_id = any(v_subscriptions)
                or i.payment_source_id = any(v_payments)
            )
    ));
    perform mirror.act_as(v_actor);
    return cardinality(v_payments) + cardinality(v_refunds) + cardinality(v_plans) + cardinality(v_subscriptions)
        + cardinality(v_invoices);
end
$$;

comment on function mirror.upsert_money(uuid, jsonb) is
'Writes what a payment provider tells (payments, refunds, subscription plans, subscriptions, invoices, and their deletions) '
'where it is newer than what is there, and links it; returns how many changed. p_records: {"provider_payments": {column: [..]}, '
'"provider_refunds", "subscription_plans", "subscriptions", "invoices", "deleted_money"} with the columns of '
'mirror.provider_payment_columns and so on; a source_id at most once.';
revoke execute on function mirror.upsert_money(uuid, jsonb) from public;
grant execute on function mirror.upsert_money(uuid, jsonb) to service_role;
