create function mirror.activate_customers(p_store_id uuid, p_emails text[]) returns void
language plpgsql
set search_path = ''
as $$
begin
    -- Two transactions may each bring a customer with the same address and not see the other's. Then the unique index
    -- stops the second one here; when it looks again, the first has committed. And one may take the active customer away
    -- while the other brings an older one: so whoever chooses waits for all who have a customer of the address in hand.
    for attempt in 1..10 loop
        begin
            perform
            from public.customers
            where store_id = p_store_id and email = any(p_emails)
            order by source_id
            for no key update;

            with ranked as (
                select
                    id,
                    row_number() over (
                        partition by email order by registered_at desc nulls last, source_id desc
                    ) = 1 as is_newest
                from public.customers
                where store_id = p_store_id and email = any(p_emails) and deleted_at is null
            )
            update public.customers as c
            set is_active = false
            from ranked
            where c.id = ranked.id and c.is_active and not ranked.is_newest;

            with newest as (
                select distinct on (email) id
                from public.customers
                where store_id = p_store_id and email = any(p_emails) and deleted_at is null
                order by email, registered_at desc nulls last, source_id desc
            )
            update public.customers as c
            set is_active = true
            from newest
            where c.id = newest.id and not c.is_active;
            return;
        exception when unique_violation then
            if attempt = 10 then
                raise;
            end if;
        end;
    end loop;
end
$$;

comment on function mirror.activate_customers(uuid, text[]) is
'Makes the newest registration of each of these e-mail addresses the active one, and the others inactive.';
revoke execute on function mirror.activate_customers(uuid, text[]) from public;
grant execute on function mirror.activate_customers(uuid, text[]) to service_role;
