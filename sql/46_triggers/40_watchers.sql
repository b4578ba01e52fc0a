-- Who watches an order hears of what mirror.track_orders tells of it. Rows, with conditions: a slice of new orders, or of
-- orders of which only other things changed, sends no notification at all. What no trigger sees (a line that is added, a
-- number that is no longer proved) is seen when the API looks again by itself.

create trigger tell_watchers after update on public.customer_orders_summary
for each row
when (
    (
        old.order_code, old.order_date, old.cancelled_at, old.deleted_at, old.currency, old.total_with_tax, old.batch_id,
        old.contact_phone, old.customer_id
    ) is distinct from (
        new.order_code, new.order_date, new.cancelled_at, new.deleted_at, new.currency, new.total_with_tax, new.batch_id,
        new.contact_phone, new.customer_id
    )
)
execute function mirror.tell_watchers();

create trigger tell_watchers after update on public.customer_order_items
for each row
when (
    (old.product_name, old.variant_name, old.quantity, old.print_name, old.print_number)
    is distinct from (new.product_name, new.variant_name, new.quantity, new.print_name, new.print_number)
)
execute function mirror.tell_watchers();

create trigger tell_watchers after update on public.order_delivery_status
for each row
when (
    (
        old.stage, old.tracking_number, old.carrier, old.eta, old.confirmed_at, old.sourcing_at, old.arrived_at,
        old.dispatched_at, old.delivered_at
    ) is distinct from (
        new.stage, new.tracking_number, new.carrier, new.eta, new.confirmed_at, new.sourcing_at, new.arrived_at,
        new.dispatched_at, new.delivered_at
    )
)
execute function mirror.tell_watchers();

create trigger tell_watchers after update on public.import_batches
for each row
when (
    (
        old.batch_number, old.status, old.order_count, old.target_order_count, old.expected_arrival_date, old.created_at,
        old.ordered_at, old.arrived_at
    ) is distinct from (
        new.batch_number, new.status, new.order_count, new.target_order_count, new.expected_arrival_date, new.created_at,
        new.ordered_at, new.arrived_at
    )
)
execute function mirror.tell_watchers();
