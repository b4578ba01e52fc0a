create function mirror.digest(p_lines text[]) returns text
language sql immutable parallel safe
set search_path = ''
as $$
    select encode(sha256(convert_to(coalesce(array_to_string(p_lines, E'\n'), ''), 'utf8')), 'hex')
$$;

comment on function mirror.digest(text[]) is 'SHA-256 of lines, in hexadecimal digits.';
revoke execute on function mirror.digest(text[]) from public;
grant execute on function mirror.digest(text[]) to service_role;
