"""Single values of Vendure, turned into ours: amounts, texts."""

from decimal import Decimal
from functools import lru_cache
from typing import Any

from iso4217 import Currency

from sync.errors import Reject


@lru_cache(maxsize=256)
def decimals(currency: str) -> int:
    """Return how many decimals an amount in this currency has (ISO 4217 "minor unit"): JPY 0, LKR 2, KWD 3."""
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        raise Reject(f"currencyCode: {currency!r} is no ISO 4217 currency") from None
    return exponent or 0


@lru_cache(maxsize=10_000)
def money(minor_units: int, exponent: int) -> Decimal:
    """Return an integer amount in major units, exactly: (12345, 2) is 123.45. A shop's amounts come again and again."""
    try:
        return Decimal(f"{minor_units}e-{exponent}")
    except ValueError:  # Python writes out 4300 digits at the most
        raise Reject("an amount has thousands of digits") from None


def text(value: Any) -> str | None:
    """Return a value as text; None for null and for what is blank (Vendure mixes "" and null)."""
    if value is None:
        return None
    if type(value) is str:  # nearly always
        return value.strip() or None
    if isinstance(value, dict | list):
        return None
    return str(value).strip() or None
