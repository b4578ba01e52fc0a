-- What another shop brought up. Through the Data API, too, times are told in UTC, whatever the database's own time zone.
alter function public.mirror_call(text, json) set timezone = 'UTC';
