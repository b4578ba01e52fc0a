-- What a plain Postgres lacks to behave like a Supabase project: roles, the schema auth, a publication.
--
-- Applied by a superuser, and only to a plain Postgres (`mirror migrate`, the tests); never to Supabase, which
-- has the real ones. May be applied again at any time. It follows hosted Supabase closely where our schema
-- could tell the difference, in rights above all, and leaves out the rest.

-- Roles belong to the whole server, which several databases may prepare at once; an advisory lock is of one database only.
lock table pg_catalog.pg_authid in share row exclusive mode;

do $$
declare
    wanted record;
begin
    for wanted in
        select * from (values
            ('postgres', 'nosuperuser createdb createrole replication bypassrls login'),
            ('anon', 'nologin noinherit'),
            ('authenticated', 'nologin noinherit'),
            ('service_role', 'nologin noinherit bypassrls'),
            ('authenticator', 'login noinherit')
        ) as roles (name, attributes)
    loop
        if not exists (select from pg_roles where rolname = wanted.name) then
            execute format('create role %I %s', wanted.name, wanted.attributes);
        end if;
    end loop;
end
$$;

grant anon to authenticator;
grant authenticated to authenticator;
grant service_role to authenticator;
grant anon to postgres with admin option;
grant authenticated to postgres with admin option;
grant service_role to postgres with admin option;
grant authenticator to postgres with admin option;

alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role authenticator set lock_timeout = '8s';

-- public: since 2026 new tables and functions come without any grant to the API's roles but these.
grant usage on schema public to anon, authenticated, service_role;
grant usage, create on schema public to postgres;

alter default privileges for role postgres in schema public
grant truncate, references, trigger on tables to anon, authenticated, service_role;

create schema if not exists extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant usage, create on schema extensions to postgres;

-- auth: `postgres` reads and references it, and creates nothing in it.
create schema if not exists auth;
grant usage on schema auth to anon, authenticated, service_role, postgres;

create table if not exists auth.users (
    id uuid primary key,
    aud varchar(255),
    role varchar(255),
    email varchar(255),
    email_confirmed_at timestamptz,
    phone text unique,
    phone_confirmed_at timestamptz,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    deleted_at timestamptz,
    is_anonymous boolean not null default false
);

alter table auth.users enable row level security;
grant select, insert, update, delete, references, trigger on auth.users to postgres;

create or replace function auth.jwt() returns jsonb
language sql
stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')
    )::jsonb
$$;

create or replace function auth.uid() returns uuid
language sql
stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
$$;

create or replace function auth.role() returns text
language sql
stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.role', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
$$;

create or replace function auth.email() returns text
language sql
stable
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.email', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
$$;

-- Realtime: `postgres` owns the publication, as it does on Supabase, and may add its tables to it.
do $$
begin
    if not exists (select from pg_publication where pubname = 'supabase_realtime') then
        create publication supabase_realtime;
        if exists (select from pg_roles where rolname = 'postgres' and not rolsuper) then
            execute format('grant create on database %I to postgres', current_database());
        end if;
        alter publication supabase_realtime owner to postgres;
    end if;
end
$$;
