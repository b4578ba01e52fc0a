"""What the page says, in every language that it speaks: a catalogue of `words/<language>.toml` each.

All catalogues have the same keys; one that lacks a word does not load, so that no customer is the first to notice.
"""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.resources import files
from typing import Any

from babel import Locale

LANGUAGES = ("en", "si", "ta")
DEFAULT = "en"


class Words:
    """The words of one language, by their key: `order.total`."""

    def __init__(self, language: str, words: Mapping[str, str]) -> None:
        self.language = language
        self.by_key = words

    def text(self, key: str, **values: object) -> str:
        """Return a text with its {places} filled in; with `n`, in the form that the language's plural rule says."""
        if "n" in values:
            key = f"{key}.{self._form(values['n'])}"
        return self.by_key[key].format(**values)

    def has(self, key: str) -> bool:
        return key in self.by_key

    def _form(self, n: Any) -> str:
        return "one" if self._plural_form(n) == "one" else "other"

    @cached_property
    def _plural_form(self) -> Any:
        return Locale(self.language).plural_form


def _keys(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, str):
            yield path + name, value
        else:
            yield from _keys(value, f"{path}{name}.")


def _load() -> dict[str, Words]:
    folder = files(__package__) / "words"
    read = {
        language: dict(_keys(tomllib.loads((folder / f"{language}.toml").read_text("utf-8")))) for language in LANGUAGES
    }
    for language, words in read.items():
        if differing := words.keys() ^ read[DEFAULT].keys():
            raise ValueError(f"words/{language}.toml and words/{DEFAULT}.toml differ in: {', '.join(differing)}")
    return {language: Words(language, words) for language, words in read.items()}


WORDS = _load()
