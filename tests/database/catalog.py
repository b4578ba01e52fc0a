"""A database's schema as Postgres' catalogs describe it: one line for each fact, in words that can be compared.

`describe` leaves out what says nothing about the schema (object ids, order of creation, the history of
migrations, what extensions bring) and gives a sorted list, so that the difference of two databases reads as a
list of what one has and the other lacks.
"""

from __future__ import annotations

import asyncpg

# Schemas that are ours; everything else belongs to Postgres, Supabase or an extension.
OURS = "n.nspname in ('public', 'mirror')"

SCHEMAS = f"""
    select format('schema %s owned by %s', n.nspname, n.nspowner::regrole)
    from pg_namespace n where {OURS}
"""

RELATIONS = f"""
    select format('%s %s.%s owned by %s, row security %s, forced %s, options %s, partition of %s%s',
      case c.relkind when 'r' then 'table' when 'p' then 'partitioned table' when 'v' then 'view'
        when 'm' then 'materialized view' when 'S' then 'sequence' when 'c' then 'composite type' end,
      n.nspname, c.relname, c.relowner::regrole, c.relrowsecurity, c.relforcerowsecurity,
      coalesce(c.reloptions::text, 'none'), coalesce(pg_get_expr(c.relpartbound, c.oid), 'nothing'),
      case when c.relkind in ('v', 'm') then E'\\n' || pg_get_viewdef(c.oid) else '' end)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'S', 'c') and {OURS}
"""

COLUMNS = f"""
    select format('column %s.%s.%s #%s %s%s%s%s storage %s compression %s statistics %s',
      n.nspname, c.relname, a.attname,
      row_number() over (partition by c.oid order by a.attnum),
      format_type(a.atttypid, a.atttypmod),
      case when a.attcollation <> t.typcollation then ' collate ' || a.attcollation::regcollation else '' end,
      case when a.attnotnull then ' not null' else '' end,
      coalesce(
        case a.attgenerated when '' then ' default ' else ' generated always as ' end
          || pg_get_expr(d.adbin, d.adrelid),
        case a.attidentity when '' then '' else ' identity ' || a.attidentity::text end),
      a.attstorage, a.attcompression, coalesce(a.attstattarget, -1))
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_type t on t.oid = a.atttypid
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v', 'm', 'c') and {OURS}
"""

CONSTRAINTS = f"""
    select format('constraint %s on %s: %s, validated %s', o.conname,
      case when o.conrelid <> 0 then o.conrelid::regclass::text else o.contypid::regtype::text end,
      pg_get_constraintdef(o.oid), o.convalidated)
    from pg_constraint o join pg_namespace n on n.oid = o.connamespace
    where {OURS}
"""

INDEXES = f"""
    select format('index %s, valid %s, replica identity %s, clustered %s',
      pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisreplident, i.indisclustered)
    from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'm') and {OURS}
"""

TRIGGERS = f"""
    select format('trigger %s, enabled %s', pg_get_triggerdef(g.oid), g.tgenabled)
    from pg_trigger g join pg_class c on c.oid = g.tgrelid join pg_namespace n on n.oid = c.relnamespace
    where not g.tgisinternal and {OURS}
"""

POLICIES = f"""
    select format('policy %s on %s.%s %s for %s to %s using %s with check %s',
      p.policyname, p.schemaname, p.tablename, p.permissive, p.cmd, p.roles,
      coalesce(p.qual, 'nothing'), coalesce(p.with_check, 'nothing'))
    from pg_policies p join pg_namespace n on n.nspname = p.schemaname
    where {OURS}
"""

FUNCTIONS = f"""
    select format('%s owned by %s',
      case when f.prokind = 'a' then 'aggregate ' || f.oid::regprocedure else pg_get_functiondef(f.oid) end,
      f.proowner::regrole)
    from pg_proc f join pg_namespace n on n.oid = f.pronamespace
    where {OURS}
"""

TYPES = f"""
    select format('type %s.%s owned by %s: %s%s', n.nspname, t.typname, t.typowner::regrole,
      case t.typtype when 'e' then 'enum' when 'd' then 'domain over ' || format_type(t.typbasetype, t.typtypmod)
        when 'c' then 'composite' else t.typtype::text end,
      case t.typtype
        when 'e' then (select string_agg(e.enumlabel, ', ' order by e.enumsortorder)
          from pg_enum e where e.enumtypid = t.oid)
        when 'd' then coalesce(' default ' || t.typdefault, '') || case when t.typnotnull then ' not null' else '' end
        else '' end)
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    left join pg_class c on c.oid = t.typrelid
    where t.typtype in ('e', 'd', 'c') and coalesce(c.relkind, 'c') = 'c' and {OURS}
"""

# An absent list of grants means the default ones; acldefault spells those out, so that both compare alike.
GRANTS = f"""
    select format('grant %s on %s to %s by %s%s', g.privilege_type, o.object,
      case g.grantee when 0 then 'public' else g.grantee::regrole::text end, g.grantor::regrole,
      case when g.is_grantable then ' with grant option' else '' end)
    from (
      select 'schema ' || n.nspname, coalesce(n.nspacl, acldefault('n', n.nspowner))
      from pg_namespace n where {OURS}
      union all
      select 'relation ' || c.oid::regclass,
        coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's'::"char" else 'r' end, c.relowner))
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where c.relkind in ('r', 'p', 'v', 'm', 'S') and {OURS}
      union all
      select 'column ' || c.oid::regclass || '.' || a.attname, a.attacl
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      where a.attacl is not null and {OURS}
      union all
      select 'function ' || f.oid::regprocedure, coalesce(f.proacl, acldefault('f', f.proowner))
      from pg_proc f join pg_namespace n on n.oid = f.pronamespace where {OURS}
      union all
      select 'type ' || t.oid::regtype, coalesce(t.typacl, acldefault('T', t.typowner))
      from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.typtype in ('e', 'd') and {OURS}
      union all
      select 'what ' || d.defaclrole::regrole || ' makes of kind ' || d.defaclobjtype::text || ' in '
        || coalesce(n.nspname, 'any schema'), d.defaclacl
      from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace where n.oid is null or {OURS}
    ) as o (object, acl)
    cross join lateral aclexplode(o.acl) g
"""

COMMENTS = f"""
    select format('comment on %s %s: %s', i.type, i.identity, d.description)
    from pg_description d
    cross join lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) i
    left join pg_namespace n on n.nspname = coalesce(i.schema, case i.type when 'schema' then i.identity end)
    where {OURS}
       or split_part(i.identity, ' on ', 2) ~ '^(public|mirror)\\.'
"""

RULES = f"""
    select format('rule %s', pg_get_ruledef(r.oid))
    from pg_rewrite r join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
    where r.rulename <> '_RETURN' and {OURS}
"""

PUBLISHED = """
    select format('publication %s has %s.%s', pubname, schemaname, tablename) from pg_publication_tables
"""

EXTENSIONS = """
    select format('extension %s in %s', extname, extnamespace::regnamespace) from pg_extension
"""

FACTS = (
    SCHEMAS, RELATIONS, COLUMNS, CONSTRAINTS, INDEXES, TRIGGERS, POLICIES, FUNCTIONS, TYPES, GRANTS, COMMENTS,
    RULES, PUBLISHED, EXTENSIONS,
)  # fmt: skip


async def describe(dsn: str) -> list[str]:
    """List every fact about our schemas in a database, sorted."""
    connection = await asyncpg.connect(dsn)
    try:
        # With no path every name is written with its schema.
        await connection.execute("set search_path = ''")
        return sorted([row[0] for query in FACTS for row in await connection.fetch(query)])
    finally:
        await connection.close()
