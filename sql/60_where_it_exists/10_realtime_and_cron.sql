-- What Supabase brings and a plain Postgres lacks: used where it exists, and not missed where it does not.

do $$
begin
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables) then
        alter publication supabase_realtime add table public.order_delivery_status;
    end if;
    if exists (select from pg_extension where extname = 'pg_cron') and has_schema_privilege('cron', 'usage') then
        perform cron.schedule('commerce-mirror', '* * * * *', 'select mirror.run_schedule()');
    end if;
end
$$;
