"""Phone numbers, as the tables hold them: digits with country code and no plus.

One rule for what an engine sends and for what a customer types, so that the two can be compared.
"""

from functools import lru_cache

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
