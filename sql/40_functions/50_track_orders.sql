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
