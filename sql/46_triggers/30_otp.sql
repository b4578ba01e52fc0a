create trigger give_otp_settings after insert on public.stores
referencing new table as after
for each statement execute function mirror.give_otp_settings();

create trigger keep_phone_proof before update on public.customers
for each row
when (
    old.phone_proved_at is not null
    and (new.phone_number is distinct from old.phone_number or not new.phone_verified)
)
execute function mirror.keep_phone_proof();
