create view mirror.unbooked_orders
with (security_invoker = true)
as
select i.order_summary_id, min(l.settled_at) as since
from public.lexoffice_sync_logs as l
inner join public.invoices as i on l.invoice_id = i.id
where l.status in ('refused', 'to_correct') and i.order_summary_id is not null
group by i.order_summary_id;

comment on view mirror.unbooked_orders is
'Orders with an invoice that Lexware Office does not have, or not as it should, until somebody does something about it, each '
'once.';
