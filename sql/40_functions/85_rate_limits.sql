create type mirror.lease_columns as (
    scope text [],
    subject text [],
    quota integer [],
    seconds integer [],
    spent integer [],
    wanted integer []
);

create function mirror.lease_requests(p_leases json) returns table (granted integer, used integer, wait_seconds integer)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
    v_leases constant mirror.lease_columns := json_populate_record(null::mirror.lease_columns, p_leases);
    v_now constant timestamptz := clock_timestamp();
begin
    return query
    with asked as (
        select
            t.position, t.scope, t.quota, t.seconds, t.spent, t.wanted,
            encode(sha256(convert_to(concat_ws(':', s.salt, t.scope, t.subject), 'UTF8')), 'hex') as subject
        from unnest(
            v_leases.scope, v_leases.subject, v_leases.quota, v_leases.seconds, v_leases.spent, v_leases.wanted
        ) with ordinality as t (scope, subject, quota, seconds, spent, wanted, position)
        cross join mirror.request_salt as s
    ), counted as (
        insert into mirror.request_counts as c (scope, subject, used, ends_at)
        select a.scope, a.subject, a.spent + a.wanted, v_now + a.seconds * interval '1 second'
        from asked as a
        order by a.scope, a.subject
        on conflict (scope, subject) do update set
            used = case when c.ends_at > v_now then least(c.used, 1000000000) else 0 end + excluded.used,
            ends_at = case when c.ends_at > v_now then c.ends_at else excluded.ends_at end
        returning c.scope, c.subject, c.used, c.ends_at
    )
    select
        greatest(least(a.wanted, a.quota - (c.used - a.wanted)), 0),
        c.used,
        ceil(extract(epoch from c.ends_at - v_now))::integer
    from asked as a
    inner join counted as c on c.scope = a.scope and c.subject = a.subject
    order by a.position;
end
$$;

comment on function mirror.lease_requests(json) is
'Hands out parts of rate limits. Takes one JSON object with an array per column of mirror.lease_columns, no scope and subject '
'twice: of a quota for so many seconds, how many were spent without asking, and how many are wanted. Returns in the same order '
'how many are granted, how many all have taken or wanted, and in how many seconds it begins anew.';
revoke execute on function mirror.lease_requests(json) from public;
grant execute on function mirror.lease_requests(json) to service_role;

create function mirror.prune_request_counts() returns integer
language plpgsql
set search_path = ''
as $$
declare
    v_deleted integer;
begin
    delete from mirror.request_counts where ends_at < now();
    get diagnostics v_deleted = row_count;
    return v_deleted;
end
$$;

comment on function mirror.prune_request_counts() is
'Deletes what no longer counts against a rate limit; returns how many. Runs by itself every ten minutes.';
revoke execute on function mirror.prune_request_counts() from public;
grant execute on function mirror.prune_request_counts() to service_role;
