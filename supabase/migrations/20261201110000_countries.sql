-- A store's country is one, so that a mistyped one (UK) is said at once instead of leaving every phone number unread.

create or replace function mirror.guard_store() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    -- Those whose numbering is known where phone numbers are read (sync/phones.py).
    v_regions constant text[] := regexp_split_to_array(
        'AC AD AE AF AG AI AL AM AO AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BW BY BZ CA CC CD
        CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE
        GF GG GH GI GL GM GN GP GQ GR GT GU GW GY HK HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN
        KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ
        NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH
        SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TA TC TD TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG US UY UZ VA VC VE VG
        VI VN VU WF WS XK YE YT ZA ZM ZW',
        '\s+'
    );
begin
    if not exists (select from pg_timezone_names as z where z.name = new.timezone) then
        raise exception 'There is no time zone %.', coalesce(nullif(new.timezone, ''), '(empty)')
        using errcode = 'check_violation', hint = 'Write it like Asia/Colombo. They are all in pg_timezone_names.';
    end if;
    if new.phone_region <> all(v_regions) then
        raise exception 'There is no country %.', coalesce(nullif(new.phone_region, ''), '(empty)')
        using errcode = 'check_violation', hint = 'Write the two letters of ISO 3166, like LK, or GB for the United Kingdom.';
    end if;
    return new;
end
$$;

comment on function mirror.guard_store() is
'Trigger: a store''s time zone is one, and so is its country. Batch numbers, tracking and the books ask for the day there, and '
'would fail without; and no phone number would be read as of a country that is none.';

drop trigger guard on public.stores;
create trigger guard before update on public.stores
for each row
when ((new.timezone, new.phone_region) is distinct from (old.timezone, old.phone_region))
execute function mirror.guard_store();
