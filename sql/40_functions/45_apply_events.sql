create function mirror.apply_events(p_claim uuid, p_records json, p_settlements json) returns json
language plpgsql
set search_path = ''
as $$
declare
    v_counts json;
begin
    v_counts := mirror.apply_records(p_records);
    perform mirror.settle_events(p_claim, p_settlements);
    return v_counts;
end
$$;

comment on function mirror.apply_events(uuid, json, json) is
'Applies the records of a slice of events and settles the events, all or nothing; returns how many customers and orders changed. '
'p_records as apply_records takes it; p_settlements as settle_events takes it.';
revoke execute on function mirror.apply_events(uuid, json, json) from public;
grant execute on function mirror.apply_events(uuid, json, json) to service_role;
