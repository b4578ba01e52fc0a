-- Delivery stage and tracking number are an admin's to change, the batch as well; contents follow from what the engine tells.
-- What mirror.is_engine() says is spelled out here: as an expression it costs a row of a backfill a tenth of the call.

create trigger note_hand_edit before update on public.customers
for each row
when ( -- what a customer proved is no edit by hand
    not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:')
    and (
        old.source, old.source_id, old.source_version, old.email, old.phone_number, old.phone_as_entered,
        old.phone_verified or new.phone_proved_at is not null,
        old.title, old.first_name, old.last_name, old.has_account, old.email_verified,
        old.marketing_consent, old.group_names, old.custom_fields, old.registered_at, old.deleted_at
    ) is distinct from (
        new.source, new.source_id, new.source_version, new.email, new.phone_number, new.phone_as_entered,
        new.phone_verified or new.phone_proved_at is not null,
        new.title, new.first_name, new.last_name, new.has_account, new.email_verified,
        new.marketing_consent, new.group_names, new.custom_fields, new.registered_at, new.deleted_at
    )
)
execute function mirror.note_hand_edit('customer');
create trigger note_hand_removal before delete on public.customers
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_hand_edit('customer');

create trigger note_hand_edit before update on public.customer_orders_summary
for each row
when (
    not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:')
    and (
        old.source, old.source_id, old.source_version, old.customer_id, old.order_code, old.order_state, old.order_date,
        old.payment_method, old.currency, old.sub_total, old.shipping, old.tax, old.discount, old.total, old.total_with_tax,
        old.total_paid, old.total_refunded, old.coupon_codes, old.shipping_method, old.shipping_address, old.billing_address,
        old.contact_name, old.contact_phone, old.contact_email, old.custom_fields, old.cancelled_at, old.deleted_at
    ) is distinct from (
        new.source, new.source_id, new.source_version, new.customer_id, new.order_code, new.order_state, new.order_date,
        new.payment_method, new.currency, new.sub_total, new.shipping, new.tax, new.discount, new.total, new.total_with_tax,
        new.total_paid, new.total_refunded, new.coupon_codes, new.shipping_method, new.shipping_address, new.billing_address,
        new.contact_name, new.contact_phone, new.contact_email, new.custom_fields, new.cancelled_at, new.deleted_at
    )
)
execute function mirror.note_hand_edit('order');

create trigger note_hand_edit before insert or update on public.customer_order_items
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.customer_order_items
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('order');

create trigger note_hand_edit before insert or update on public.customer_addresses
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('customer');
create trigger note_hand_removal after delete on public.customer_addresses
for each row when (not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:'))
execute function mirror.note_part_edit('customer');

create trigger note_hand_edit before insert or update on public.payments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.payments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');

create trigger note_hand_edit before insert or update on public.refunds
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.refunds
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');

create trigger note_hand_edit before insert or update on public.fulfillments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');
create trigger note_hand_removal after delete on public.fulfillments
for each row when (not mirror.is_engine())
execute function mirror.note_part_edit('order');

create trigger forget_provider_state after update or delete on public.payments
for each row when (not mirror.is_engine() and old.provider_payment_id is not null)
execute function mirror.forget_provider_state();
create trigger forget_provider_state after update or delete on public.refunds
for each row when (not mirror.is_engine() and old.stripe_refund_id is not null)
execute function mirror.forget_provider_state();

create trigger note_hand_edit before update on public.subscription_plans
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('plan');
create trigger note_hand_removal before delete on public.subscription_plans
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('plan');

create trigger note_hand_edit before update on public.subscriptions
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('subscription');
create trigger note_hand_removal before delete on public.subscriptions
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('subscription');

create trigger note_hand_edit before update on public.invoices
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('invoice');
create trigger note_hand_removal before delete on public.invoices
for each row when (not mirror.is_engine())
execute function mirror.note_hand_edit('invoice');

create trigger recount after update of total_orders, total_spent, spent_by_currency, last_order_date on public.customers
for each row
when (
    pg_trigger_depth() = 0 and not starts_with(coalesce(current_setting('mirror.actor', true), ''), 'engine:')
    and (old.total_orders, old.total_spent, old.spent_by_currency, old.last_order_date)
    is distinct from (new.total_orders, new.total_spent, new.spent_by_currency, new.last_order_date)
)
execute function mirror.recount_customer();
