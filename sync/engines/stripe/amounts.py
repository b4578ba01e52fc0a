"""Stripe's amounts: integers in a currency's minor unit, by ISO 4217 but for exceptions of Stripe's own.

https://docs.stripe.com/currencies: what Stripe calls zero-decimal has no minor unit there, whatever ISO 4217 says
(MGA); what has lost its minor unit since is still told in hundredths, so that old programs go on (ISK, UGX). HUF and
TWD are whole in payouts only, which are not mirrored.
"""

from decimal import Decimal
from functools import lru_cache

from iso4217 import Currency

EXCEPTIONS = {"MGA": 0, "ISK": 2, "UGX": 2}
"""Currency → decimals, where Stripe's are not those of ISO 4217."""

USUAL_DECIMALS = 2
"""Of what Stripe knows and ISO 4217 no longer does: all of those have hundredths."""


def amount(minor_units: int | Decimal, currency: str) -> Decimal:
    """Return an amount in major units, exactly: (500, "jpy") is 500, (500, "isk") is 5.00, (5120, "kwd") is 5.120."""
    return Decimal(minor_units).scaleb(-decimals(currency))


@lru_cache(maxsize=256)
def decimals(currency: str) -> int:
    """Return how many decimals an amount has over there; codes are lower case at Stripe."""
    code = currency.upper()
    if code in EXCEPTIONS:
        return EXCEPTIONS[code]
    try:
        return Currency(code).exponent or 0
    except ValueError:
        return USUAL_DECIMALS
