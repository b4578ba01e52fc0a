"""Write `docs/access.md` from the matrix in `access.py`: `python -m tests.database.access_page`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.database.access import (
    OPERATIONS,
    PEOPLE,
    RELATIONS,
    SERVICE_FUNCTIONS,
    TRIGGER_FUNCTIONS,
    Access,
    Person,
)

PAGE = Path(__file__).parents[2] / "docs" / "access.md"
NOTHING = "no"
TEXT = Path(__file__).with_name("access_page.md")


def render() -> str:
    """Return the page: the text in `access_page.md`, with the tables put in."""
    return TEXT.read_text().format(
        relations=_relations(),
        own_columns=_own_columns(),
        functions=_functions(),
        service_only=_names(_without_policy()),
    )


def _relations() -> str:
    people = [person.name for person in PEOPLE]
    cells = ([f"`{name}`", *(_cell(access, person) for person in PEOPLE)] for name, access in RELATIONS.items())
    return _table(["", *people], cells)


def _cell(access: Access, person: Person) -> str:
    if access.own_columns and person.role == "authenticated":
        return f"select: own rows, some columns{'' if person.is_customer else ': no rows'}"
    allowed = [operation for operation in OPERATIONS if access.allows(person, operation)]
    if not allowed:
        return NOTHING
    if person.role == "service_role":
        columns = f" ({_names(access.update_columns)})" if access.update_columns else ""
        return ", ".join(allowed) + columns
    return "select: own rows" if person.is_customer else "select: no rows"


def _own_columns() -> str:
    rows = [[f"`{name}`", _names(access.own_columns)] for name, access in RELATIONS.items() if access.own_columns]
    return _table(["", "columns"], rows)


def _functions() -> str:
    rows = [[f"`{name}`", NOTHING, NOTHING, "execute"] for name in SERVICE_FUNCTIONS]
    rows += [[f"`{name}` (trigger)", NOTHING, NOTHING, NOTHING] for name in TRIGGER_FUNCTIONS]
    return _table(["", "anon", "authenticated", "service_role"], rows)


def _without_policy() -> list[str]:
    return [name for name, access in RELATIONS.items() if access.own is None and not access.is_view]


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    PAGE.write_text(render())
