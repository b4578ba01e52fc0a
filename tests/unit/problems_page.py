"""Write `docs/problems.md` from the list in `api/problems.py`: `python -m tests.unit.problems_page`."""

from __future__ import annotations

from pathlib import Path

from api.problems import Problem, all_problems

PAGE = Path(__file__).parents[2] / "docs" / "problems.md"
HEAD = """# Problems

What the API answers when it cannot do what was asked: `application/problem+json`
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). `code` is stable, and what a program should go by; `type` is the
same as a URI, `urn:commerce-mirror:problem:<code>`. `title` and `detail` are for people, and may change. A problem with
status 429 or 503 has the header `Retry-After`, in seconds, where it is known when to try again. Each answer has an
`X-Request-ID`, which the log has, too.

| code | status | what to do |
|---|---|---|
"""


def render() -> str:
    """Return the page."""
    return HEAD + "".join(map(_row, all_problems()))


def _row(problem: Problem) -> str:
    own = ", ".join(f"`{name}`" for name in problem.extra)
    has = f" Has {own} beside the usual members." if own else ""
    advice = problem.advice or problem.detail.replace("{wait}", "so many")
    return f"| `{problem.code}` | {problem.status.value} | {problem.title}. {advice}{has} |\n"


if __name__ == "__main__":
    PAGE.write_text(render())
