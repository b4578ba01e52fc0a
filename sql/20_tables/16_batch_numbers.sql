create table mirror.batch_numbers (
    id uuid primary key default mirror.uuid_v7(),
    store_id uuid not null references public.stores (id),
    day date not null,
    last_number integer not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (store_id, day)
);

comment on table mirror.batch_numbers is 'The last number given to an import batch, by store and day.';

create trigger touch_updated_at before update on mirror.batch_numbers
for each row execute function mirror.touch_updated_at();

create function mirror.next_batch_number(p_store_id uuid) returns text
language plpgsql
set search_path = ''
as $$
declare
    v_day date;
    v_number integer;
    v_batch_number text;
begin
    select (now() at time zone timezone)::date into strict v_day
    from public.stores
    where id = p_store_id;

    loop
        insert into mirror.batch_numbers as n (store_id, day, last_number)
        values (p_store_id, v_day, 1)
        on conflict (store_id, day) do update set last_number = n.last_number + 1
        returning last_number into v_number;
        v_batch_number := to_char(v_day, 'YYYYMMDD') || '-' || lpad(v_number::text, greatest(4, length(v_number::text)), '0');
        -- An admin may have entered a number by hand.
        exit when not exists (
            select from public.import_batches as b where b.store_id = p_store_id and b.batch_number = v_batch_number
        );
    end loop;
    return v_batch_number;
end
$$;

comment on function mirror.next_batch_number(uuid) is
'A batch number that no other batch of the store has: YYYYMMDD-####, by the day in the store''s time zone.';
revoke execute on function mirror.next_batch_number(uuid) from public;
grant execute on function mirror.next_batch_number(uuid) to service_role;

create function public.generate_batch_number() returns text
language sql
set search_path = ''
as $$
    select mirror.next_batch_number(mirror.default_store_id())
$$;

comment on function public.generate_batch_number() is
'A new batch number of the default store: YYYYMMDD-####, by the day in the store''s time zone.';
revoke execute on function public.generate_batch_number() from public;
grant execute on function public.generate_batch_number() to service_role;
