"""Split a SQL file into its statements, as Postgres reads it and as the Supabase CLI records it.

A semicolon ends a statement unless it is within quotes, dollar quotes, a comment or a `begin atomic … end`.
Libraries that guess (every one without Postgres' own parser does) stumble over bodies and trailing comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

TOKEN = re.compile(
    r"""
      (?P<line_comment> --[^\n]* )
    | (?P<comment> /\* )
    | (?P<escaped> \b[eE]' (?: \\. | '' | [^'\\] )* ' )
    | (?P<quoted> '[^']*' | "[^"]*" )
    | (?<![\w$]) (?P<dollar> \$ (?: [^\W\d]\w* )? \$ )
    | (?P<atomic> \b begin \s+ atomic \b )
    | (?P<case> \b case \b )
    | (?P<end> \b end \b )
    | (?P<semicolon> ; )
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
COMMENT_EDGE = re.compile(r"/\*|\*/")


def split(sql: str) -> list[str]:
    """Return the statements in order, each as it is written, without its semicolon and the space around it.

    Comments stay with the statement they precede; those after the last semicolon are an item of their own.
    """
    edges = [-1, *_semicolons(sql), len(sql)]
    pieces = (sql[before + 1 : after].strip() for before, after in pairwise(edges))
    return [piece for piece in pieces if piece]


def _semicolons(sql: str) -> Iterator[int]:
    """Find the semicolons that end a statement."""
    position = depth = 0
    while token := TOKEN.search(sql, position):
        position = _end_of(token, sql)
        match token.lastgroup:
            case "atomic":
                depth += 1
            case "case" if depth:
                depth += 1
            case "end" if depth:
                depth -= 1
            case "semicolon" if not depth:
                yield token.start()


def _end_of(token: re.Match[str], sql: str) -> int:
    """Find where a token ends whose end the pattern cannot see; an unclosed one takes the rest."""
    if token.lastgroup == "dollar":
        closing = sql.find(token.group(), token.end())
        return closing + len(token.group()) if closing >= 0 else len(sql)
    if token.lastgroup == "comment":
        return _end_of_comment(sql, token.end())
    return token.end()


def _end_of_comment(sql: str, start: int) -> int:
    """Postgres' comments nest."""
    depth = 1
    for edge in COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)
