create type mirror.order_columns as (
    source_id text [],
    source_version timestamptz [],
    customer_source_id text [],
    order_code text [],
    order_state text [],
    order_date timestamptz [],
    delivery_stage public.delivery_stage [],
    tracking_number text [],
    carrier text [],
    payment_method text [],
    currency text [],
    sub_total numeric [],
    shipping numeric [],
    tax numeric [],
    discount numeric [],
    total numeric [],
    total_with_tax numeric [],
    total_paid numeric [],
    total_refunded numeric [],
    coupon_codes text [],
    shipping_method text [],
    shipping_address jsonb [],
    billing_address jsonb [],
    contact_name text [],
    contact_phone text [],
    contact_email text [],
    custom_fields jsonb [],
    cancelled_at timestamptz [],
    source_hash text []
);

create type mirror.written_orders as (
    id uuid [],
    source_id text [],
    source_version timestamptz [],
    currency text [],
    is_new boolean [],
    customer_id uuid []
);
comment on type mirror.written_orders is
'The orders that a call of upsert_orders wrote: what their parts take from them, so that nobody looks them up again.';
