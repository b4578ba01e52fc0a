create trigger refuse instead of insert or update or delete on public.order_tracking
for each row execute function mirror.refuse_view_change('Edit stage and tracking_number in order_delivery_status.');
create trigger refuse instead of insert or update or delete on public.orders_needing_attention
for each row execute function mirror.refuse_view_change('Do what its reason asks for, and the order goes from it.');
create trigger refuse instead of insert or update or delete on public.customer_subscriptions
for each row execute function mirror.refuse_view_change('It is changed at the payment provider.');
