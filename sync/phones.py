"""Phone numbers, as the tables hold them: digits with country code and no plus.

One rule for what an engine sends and for what a customer types, so that the two can be compared.
"""

from functools import lru_cache
from typing import cast

import msgspec
import phonenumbers

DIGITS = range(6, 16)
"""How many digits the tables take (E.164: 15 at the most). Some numbering plans leave room for more, or for less."""


@lru_cache(maxsize=20_000)
def phone_digits(entered: str | None, region: str) -> str | None:
    """Return a phone number as digits with country code and no plus; None if it is no possible number.

    A number without country code is read as dialled in `region` (ISO 3166).
    """
    try:
        number = phonenumbers.parse(entered or "", region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    digits = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")
    return digits if len(digits) in DIGITS else None


class Mobile(msgspec.Struct, frozen=True):
    """A number that can get an SMS."""

    digits: str
    country: str
    """ISO 3166."""


TEXTABLE = {phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE}
"""Where a country does not tell the two apart, as in North America, a number may be either."""


def mobile(entered: str, region: str) -> Mobile | None:
    """Return the mobile number that was entered; None if it is none, or no number of any country's plan."""
    digits = phone_digits(entered, region)
    number = phonenumbers.parse(f"+{digits}") if digits else None
    if number is None or phonenumbers.number_type(number) not in TEXTABLE:
        return None
    return Mobile(cast(str, digits), phonenumbers.region_code_for_number(number) or "")
