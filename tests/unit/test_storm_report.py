"""What `mirror storm` prints."""

from __future__ import annotations

import io

from rich.console import Console

from sync.compare import Difference
from sync.storm.emitter import Tally
from sync.storm.report import DIFFERENCES_SHOWN, print_verdict
from sync.storm.verdict import Verdict


def printed(*differences: Difference, offences: list[str] | None = None) -> str:
    output = io.StringIO()
    verdict = Verdict(
        converged=not differences and not offences,
        seconds=30,
        rest_seconds=2.5,
        thrown={"hooks: lost": 12, "hooks: stale": 0},
        sent=Tally(changes=1500, requests=900),
        inbox={"applied": 1488},
        entities=400,
        differences=list(differences),
        offences=offences or [],
    )
    print_verdict(Console(file=output, width=200), verdict)
    return output.getvalue()


def test_a_storm_that_was_ridden_out_says_what_was_thrown_and_that_all_is_equal() -> None:
    text = printed()
    assert "Converged: 400 of 400 entities equal the shop's, 2.5 s after a storm of 30 s." in text
    assert "hooks: lost" in text
    assert "1,488" in text
    assert "hooks: stale" not in text, "it never happened"


def test_one_that_was_not_names_what_differs_and_what_is_wrong() -> None:
    text = printed(Difference("order", "17", ["total_with_tax"]), offences=["1 dead letters: x (broken)"])
    assert "differs order 17: total_with_tax" in text
    assert "wrong 1 dead letters: x (broken)" in text
    assert "Not converged: 399 of 400 entities" in text


def test_of_many_differences_the_first_are_named() -> None:
    text = printed(*(Difference("order", str(number), ["missing"]) for number in range(DIFFERENCES_SHOWN + 5)))
    assert text.count("differs") == DIFFERENCES_SHOWN
    assert "… and 5 more" in text
