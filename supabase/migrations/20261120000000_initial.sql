-- A comment; with a semicolon
create table public.stores (id uuid primary key, name text not null);
alter table public.stores enable row level security;
create function public.hello() returns text language plpgsql set search_path = '' as $$
begin
  return 'a;b'; -- c;
end;
$$;

create function public.hello2() returns text language sql set search_path = '' begin atomic; select 'x'; end;
/* the last */
comment on table public.stores is 'shops; many';
-- trailing
