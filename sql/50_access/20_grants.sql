-- Who may do what. Supabase grants the roles of its Data API a few rights on new objects by default: start from none.

revoke all on
public.stores,
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events
from public, anon, authenticated, service_role;

grant select on
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events
to authenticated;

grant select, insert, update, delete on
public.stores,
public.customers,
public.customer_addresses,
public.customer_orders_summary,
public.customer_order_items,
public.order_delivery_status,
public.order_delivery_status_events,
mirror.integrations,
mirror.webhook_events
to service_role;
