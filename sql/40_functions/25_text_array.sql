create function mirror.text_array(p_list text) returns text[]
language sql immutable parallel safe
set search_path = ''
as $$
    select case when p_list is null then '{}' else array(select json_array_elements_text(p_list::json)) end
$$;

comment on function mirror.text_array(text) is
'The strings of a JSON array that came as text (an array of arrays would have to be rectangular); empty for null.';
revoke execute on function mirror.text_array(text) from public;
grant execute on function mirror.text_array(text) to service_role;
