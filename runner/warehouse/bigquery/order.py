"""The order of a spine's SQL, so that a query around it can repeat it.

BigQuery gives the rows of a query in parentheses in any order. What the outermost `order by` sorts
by is therefore returned as columns; the text around it stays as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sqlglot import Token, TokenType, tokenize
from sqlglot.errors import SqlglotError

from runner.errors import RunnerError

_OPEN = {TokenType.L_PAREN, TokenType.L_BRACKET}
_CLOSE = {TokenType.R_PAREN, TokenType.R_BRACKET}
_COMPOUND = {TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT, TokenType.DISTINCT}
_DIRECTIONS = ("ASC", "DESC", "NULLS", "FIRST", "LAST")
_PREFIX = "spine_order_"


@dataclass(frozen=True)
class _Term:
    """One item of an `order by`: its text without the direction, the direction, its tokens."""

    text: str
    direction: str
    tokens: Sequence[Token]


def with_order(query: str, names: Sequence[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return `query` and the pairs (column, direction) of its outermost `order by`.

    Parameters
    ----------
    names
        The columns of `query`. What it sorts by beside them becomes a column `spine_order_<n>`.

    Raises
    ------
    RunnerError
        If it sorts by something that cannot become a column.
    """
    top = _outermost(query)
    terms = _terms(query, top)
    columns = {name.lower(): name for name in names}
    order, added = [], []
    for number, term in enumerate(terms, start=1):
        column = _output(term, names, columns)
        if column is None:
            column = f"{_PREFIX}{number}"
            added.append(f"{term.text} as {column}")
            _check_can_be_added(term, top)
        order.append((column, term.direction))
    return _with_columns(query, top, added), tuple(order)


def _outermost(query: str) -> list[Token]:
    """Return the tokens of `query` that stand in no parentheses, from the main `select` on."""
    try:
        tokens = tokenize(query, read="bigquery")
    except SqlglotError as err:
        raise RunnerError(f"the spine's SQL: {err}", hint="check its quotes") from err
    depth, top = 0, []
    for token in tokens:
        depth -= token.token_type in _CLOSE
        if depth == 0:
            top.append(token)
        depth += token.token_type in _OPEN
    main = next((i for i, t in enumerate(top) if t.token_type == TokenType.SELECT), len(top))
    return top[main:]


def _terms(query: str, top: list[Token]) -> list[_Term]:
    start = next((i for i, t in enumerate(top) if t.token_type == TokenType.ORDER_BY), None)
    if start is None:
        return []
    terms: list[_Term] = []
    current: list[Token] = []
    for token in top[start + 1 :]:
        if token.token_type in {TokenType.LIMIT, TokenType.OFFSET}:
            break
        if token.token_type == TokenType.COMMA:
            terms.append(_term(query, current))
            current = []
        else:
            current.append(token)
    return [*terms, _term(query, current)]


def _term(query: str, tokens: list[Token]) -> _Term:
    body = list(tokens)
    direction: list[str] = []
    while body and body[-1].text.upper() in _DIRECTIONS and len(body) > 1:
        direction.insert(0, body.pop().text.lower())
    return _Term(query[body[0].start : body[-1].end + 1], " ".join(direction), body)


def _output(term: _Term, names: Sequence[str], columns: dict[str, str]) -> str | None:
    """Return the column of the answer that `term` is, by name or by position."""
    if len(term.tokens) != 1:
        return None
    if term.tokens[0].token_type == TokenType.NUMBER:
        if not 0 < int(term.text) <= len(names):
            raise RunnerError(
                f"the spine's SQL is sorted by position {term.text} of {len(names)} columns",
                hint="sort by a column's name",
            )
        return names[int(term.text) - 1]
    return columns.get(term.tokens[0].text.lower())


def _check_can_be_added(term: _Term, top: list[Token]) -> None:
    selected = top[: _position_of_from(top)]
    aliases = {
        following.text.lower()
        for token, following in pairwise(selected)
        if token.token_type == TokenType.ALIAS
    }
    if any(token.token_type in _COMPOUND for token in top):
        reason = "of a `distinct` or a union"
    elif any(t.text.lower() in aliases for t in tokenize(term.text, read="bigquery")):
        reason = "made of a name given in it"
    else:
        return
    raise RunnerError(
        f"the spine's SQL is sorted by {term.text}, an expression {reason}",
        hint="select the expression as a column and sort by that column",
    )


def _with_columns(query: str, top: list[Token], added: list[str]) -> str:
    if not added:
        return query
    before = top[_position_of_from(top) - 1]
    comma = "" if before.token_type == TokenType.COMMA else ","
    end = before.end + 1
    return f"{query[:end]}{comma} {', '.join(added)}{query[end:]}"


def _position_of_from(top: list[Token]) -> int:
    return next((i for i, token in enumerate(top) if token.token_type == TokenType.FROM), len(top))
