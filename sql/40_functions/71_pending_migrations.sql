create function mirror.pending_migrations(p_versions text[]) returns text[]
language plpgsql stable security definer
set search_path = ''
as $$
begin
    if to_regclass('supabase_migrations.schema_migrations') is null then
        return p_versions;
    end if;
    return array(
        select wanted.version
        from unnest(p_versions) as wanted (version)
        where not exists (select from supabase_migrations.schema_migrations as s where s.version = wanted.version)
    );
end
$$;

comment on function mirror.pending_migrations(text[]) is
'Those of these migrations that were not applied here. Runs with its owner''s rights: the history is closed to service_role.';
revoke execute on function mirror.pending_migrations(text[]) from public;
grant execute on function mirror.pending_migrations(text[]) to service_role;
