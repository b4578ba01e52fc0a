-- The schema `mirror` holds the machinery: inbox, integrations and the functions that Python calls.
-- The Data API never exposes it; what admins and customers see is in `public`.

create schema mirror;

comment on schema mirror is
'commerce-mirror''s machinery: the inbox of change hooks and the functions that apply them. Not exposed to the Data API.';

revoke all on schema mirror from public;
grant usage on schema mirror to service_role;
