"""Problems: each has one code and one status, and stands in docs/problems.md."""

from __future__ import annotations

from api.answers import members
from api.problems import HTTP_PROBLEMS, PROBLEMS, all_problems
from tests.unit.problems_page import PAGE, render


def test_the_page_lists_the_problems() -> None:
    assert PAGE.read_text() == render(), "Run `uv run task docs:problems` and commit docs/problems.md."


def test_a_code_means_one_thing() -> None:
    for problem in (*PROBLEMS.values(), *HTTP_PROBLEMS.values()):
        (same,) = [each for each in all_problems() if each.code == problem.code]
        assert (same.status, same.title) == (problem.status, problem.title)
        assert problem.advice or "{" not in problem.detail.replace("{wait}", "")


def test_a_detail_is_whole() -> None:
    for problem in all_problems():
        assert "{" not in members(problem, reason="…", wait=1)["detail"]
