"""Dates, times and money as people write them: in their language, by the clock of the store."""

from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError, dates, numbers
from babel.core import get_global

NO_BREAK_SPACE = "\u00a0"
WORLD = "001"
"""English of no country in particular: the day before the month."""


class Formats:
    """How a language writes, in the region and time zone of a store."""

    def __init__(self, language: str, region: str, timezone: str) -> None:
        self._locale = _locale(language, region)
        self._zone = _zone(timezone)

    def day(self, day: date, now: datetime) -> str:
        """Return a date in words: 4 December; of another year, with the year."""
        if day.year != self._local(now).year:
            return dates.format_date(day, "long", locale=self._locale)
        return dates.format_skeleton("MMMMd", day, locale=self._locale)

    def moment(self, moment: datetime, now: datetime) -> str:
        """Return a date and the time of day: Fri, 4 Dec, 11:32 am."""
        local = self._local(moment)
        skeleton = "MMMEd" if local.year == self._local(now).year else "yMMMEd"
        day = dates.format_skeleton(skeleton, local, locale=self._locale)
        clock = dates.format_time(local, "short", tzinfo=self._zone, locale=self._locale)
        return f"{day}, {clock.replace(' ', NO_BREAK_SPACE)}"

    def interval(self, earliest: datetime, latest: datetime, now: datetime) -> str:
        """Return the days from one to another, as in 4 to 10 Dec."""
        start, end = self._local(earliest).date(), self._local(latest).date()
        skeleton = "MMMd" if start.year == end.year == self._local(now).year else "yMMMd"
        return dates.format_interval(start, end, skeleton, locale=self._locale)

    def day_of(self, moment: datetime) -> date:
        """Return the day that a moment falls on at the store."""
        return self._local(moment).date()

    def money(self, amount: str, currency: str) -> str:
        """Return an amount with its currency: LKR 12,500.00."""
        symbol = numbers.get_currency_symbol(currency, self._locale)
        pattern = self._locale.currency_formats["standard"].pattern
        if symbol[-1:].isalpha():  # CLDR's currencySpacing, which Babel leaves out
            pattern = pattern.replace("¤#", f"¤{NO_BREAK_SPACE}#")
        return numbers.format_currency(Decimal(amount), currency, format=pattern, locale=self._locale)

    def number(self, number: int) -> str:
        return numbers.format_decimal(number, locale=self._locale)

    def zone(self) -> str:
        """Return what the time of the store is called: Sri Lanka Time."""
        is_somewhere = self._zone.key in get_global("zone_territories")
        return dates.get_timezone_name(self._zone, locale=self._locale) if is_somewhere else self._zone.key

    def local(self, moment: datetime) -> str:
        """Return a moment as machines read it, by the store's clock."""
        return self._local(moment).isoformat(timespec="minutes")

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone)


def _zone(name: str) -> ZoneInfo:
    """Return a time zone; UTC for a name that is none, which is better than no answer."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


@lru_cache
def _locale(language: str, region: str) -> Locale:
    """Return how a language is written in a region, as far as that is known."""
    for territory in (region, WORLD):
        try:
            return Locale(language, territory)
        except (UnknownLocaleError, ValueError):
            continue
    return Locale(language)
