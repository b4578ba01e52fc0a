"""How arguments of the command `mirror` are written: a moment, a duration, a percentage."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import click


class _Duration(click.ParamType[timedelta]):
    """As 30m, 12h, 7d or 2w."""

    name = "duration"
    units: ClassVar = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", value)
        if not found:
            self.fail(f"{value!r} is not like 30m, 12h, 7d or 2w", param, ctx)
        return timedelta(**{self.units[found[2]]: int(found[1])})


class _Percent(click.ParamType[float]):
    """As 40% or 40, which becomes 0.4."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(100|[0-9]{1,2}(?:\.[0-9]+)?)%?", value)
        if not found:
            self.fail(f"{value!r} is not from 0% to 100%", param, ctx)
        return float(found[1]) / 100


class _Moment(click.DateTime):
    """A date, with or without a time; UTC where no zone is said."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        moment: datetime = super().convert(value, param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


MOMENT = _Moment(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"])
DURATION = _Duration()
PERCENT = _Percent()
