"""Which language does somebody read? What they chose, else what their browser asks for, else the store's."""

from collections.abc import Iterator

from api.pages.words import DEFAULT, WORDS

MAX_ASKED = 500
"""Characters of Accept-Language that are looked at; browsers send fewer."""


def chosen_language(chosen: str | None, accepted: str | None, locale: str | None) -> str:
    """Return the first language that the page speaks of `?lang=`, Accept-Language and the store's locale."""
    for tag in (chosen, *_preferred(accepted or ""), locale):
        if found := spoken(tag):
            return found
    return DEFAULT


def spoken(tag: str | None) -> str | None:
    """Return the language of a tag such as `ta-LK` or `si_LK`, if the page speaks it."""
    language = (tag or "").strip().replace("_", "-").partition("-")[0].lower()
    return language if language in WORDS else None


def _preferred(accepted: str) -> Iterator[str]:
    """Yield the languages of Accept-Language (RFC 9110, 12.5.4), the dearest first."""
    weighted = [(_weight(parameters), tag) for tag, _, parameters in _parts(accepted[:MAX_ASKED])]
    yield from (tag for weight, tag in sorted(weighted, key=lambda item: -item[0]) if weight > 0)


def _parts(accepted: str) -> Iterator[tuple[str, str, str]]:
    yield from (part.partition(";") for part in accepted.split(","))


def _weight(parameters: str) -> float:
    name, _, value = parameters.replace(" ", "").partition("=")
    try:
        return float(value) if name == "q" else 1.0
    except ValueError:
        return 0.0
