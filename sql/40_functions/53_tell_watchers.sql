create function mirror.tell_watchers() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if tg_table_name in ('customer_orders_summary', 'import_batches') then
        perform pg_notify('mirror_tracking', new.id::text);
    else
        perform pg_notify('mirror_tracking', new.order_summary_id::text);
    end if;
    return null;
end
$$;

comment on function mirror.tell_watchers() is
'Trigger: something that customers are told of this order or import batch has changed. Those who watch an order by '
'GET /orders/{code}/events hear of it.';
revoke execute on function mirror.tell_watchers() from public;
