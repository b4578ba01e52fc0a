"""The bench's check names what is lost, and tolerates what noise can do."""

from __future__ import annotations

import pytest

from tests.bench.targets import TARGETS, missed

GOOD = {key: target.demanded for key, target in TARGETS.items()}


def test_all_that_is_demanded_is_nothing_missed() -> None:
    assert missed(GOOD, 1) == []


@pytest.mark.parametrize("key", TARGETS)
def test_half_of_it_is_tolerated_and_less_is_named(key: str) -> None:
    factor = 1 / 2 if not TARGETS[key].is_most else 2
    assert missed({**GOOD, key: GOOD[key] * factor}, 0.5) == []
    (sentence,) = missed({**GOOD, key: GOOD[key] * factor**1.1}, 0.5)
    assert sentence.startswith(f"{key} is ")
