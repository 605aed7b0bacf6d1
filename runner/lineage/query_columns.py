"""Which columns of which tables a query's result columns take their values from.

Pure: SQL text in, names out. Of values, not of filters: what is in `where`, `having`, `on` and
`group by`, and how a window is divided and ordered, decides which rows count, not what a column
holds. What cannot be resolved raises `Unresolved`; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from runner.lineage.lineage_graph import ROWS
from runner.lineage.query_scopes import (
    ColumnsOf,
    ComputedSource,
    OutputColumn,
    OutputExpression,
    QueryScopes,
    Source,
    Unresolved,
    table_name,
)


class Origin(NamedTuple):
    """A column of a table of the warehouse, or its rows.

    Attributes
    ----------
    table
        Its name as the query writes it: database, schema, name, as far as given.
    column
        The column; `*` for the table's rows.
    """

    table: tuple[str, ...]
    column: str


class Query:
    """One SELECT, asked column by column. See `QueryScopes` for its parameters and refusals."""

    def __init__(self, sql: str, dialect: str, columns_of: ColumnsOf) -> None:
        self._scopes = QueryScopes(sql, dialect, columns_of)
        self._found: dict[tuple[int, str], set[Origin]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The result columns whose names are known."""
        return tuple(name for name in self._scopes.outputs(self._scopes.root) if name != ROWS)

    @property
    def is_open(self) -> bool:
        """Whether it has more columns: `select *` from a table whose columns are not known."""
        return ROWS in self._scopes.outputs(self._scopes.root)

    def origins(self, column: str) -> set[Origin]:
        """Return the columns that `column` (`*`: the rows) is computed from; constants have none.

        Raises
        ------
        Unresolved
            If that is unknown.
        """
        if column == ROWS:
            return self._rows(self._scopes.root)
        return self._of_scope(self._scopes.root, column)

    def _of_scope(self, scope: Scope, column: str) -> set[Origin]:
        key = (id(scope), column)
        if key not in self._found:
            self._found[key] = self._of_outputs(scope, column)
        return self._found[key]

    def _of_outputs(self, scope: Scope, column: str) -> set[Origin]:
        outputs = self._scopes.outputs(scope)
        chosen = outputs.get(column)
        if chosen is None:
            stars = [o.source for o in outputs.get(ROWS, []) if isinstance(o, OutputColumn)]
            sources = [source for source in stars if self._scopes.has(source, column) is None]
            if not sources:
                raise Unresolved(f"its SQL has no column {column}")
            if len(sources) > 1:
                raise Unresolved(f"{column} may come from any of several `*`")
            chosen = [OutputColumn(sources[0], column)]
        found: set[Origin] = set()
        for output in chosen:
            if isinstance(output, OutputExpression):
                found |= self._of_expression(output.scope, output.node)
            else:
                found |= self._of_source(output.source, output.column)
        return found

    def _of_source(self, source: Source, column: str) -> set[Origin]:
        source = self._scopes.unwrapped(source)
        if isinstance(source, Scope):
            return self._rows(source) if column == ROWS else self._of_scope(source, column)
        if isinstance(source, ComputedSource):
            return self._of_expression(source.scope, source.node)
        return {Origin(table_name(source), column)}

    def _of_expression(self, scope: Scope, expression: exp.Expr) -> set[Origin]:
        """Return the origins of everything that the expression is computed from."""
        query = self._scopes.of(expression)
        if query is not None and query is not scope and not isinstance(expression, exp.UDTF):
            names = self._scopes.outputs(query)
            if ROWS in names:
                raise Unresolved("a subquery's `*` is not known")
            return set().union(*(self._of_scope(query, name) for name in names))
        if _is_whole_row(expression):
            raise Unresolved("a whole row is taken")
        if isinstance(expression, exp.Exists) and (inner := self._scopes.of(expression.this)):
            return self._rows(inner)
        if isinstance(expression, exp.Column):
            return self._of_column(scope, [part.name for part in expression.parts])
        if isinstance(expression, exp.Window):
            return self._of_window(scope, expression)
        found: set[Origin] = set()
        if _counts_rows(expression):
            found |= self._rows(scope)
        for child in expression.iter_expressions():
            found |= self._of_expression(scope, child)
        return found

    def _of_window(self, scope: Scope, window: exp.Window) -> set[Origin]:
        counts = any(map(_counts_rows, window.this.find_all(exp.Count, exp.Sum)))
        if counts or window.this.find(exp.Column):
            return self._of_expression(scope, window.this)
        # row_number() and its like take their value from the order.
        named = {w.name: w for w in scope.expression.args.get("windows") or ()}
        spec = named.get(window.alias, window)
        parts = [*(spec.args.get("partition_by") or ()), spec.args.get("order")]
        return set().union(*(self._of_expression(scope, part) for part in parts if part))

    def _of_column(self, scope: Scope, parts: list[str]) -> set[Origin]:
        """Return the origins of `column`, `table.column`, `schema.table.column` or a field."""
        visible = list(self._visible(scope))
        for _, sources in visible:
            if len(parts) > 1 and parts[0] in sources:
                return self._of_source(sources[parts[0]], parts[1])
            if len(parts) > 2 and isinstance(sources.get(parts[-2]), exp.Table):
                return self._of_source(sources[parts[-2]], parts[-1])
        for query, sources in visible:
            found = self._of_bare_column(query, sources, parts[0])
            if found is not None:
                return found
        raise Unresolved(f"{'.'.join(parts)} is of nothing in its from clause")

    def _visible(self, scope: Scope) -> Iterator[tuple[exp.Expr, dict[str, Source]]]:
        """Yield the scope's query and its sources, then those around it that it may name."""
        seen: Scope | None = scope
        while seen is not None:
            if isinstance(seen.expression, exp.Select):
                yield seen.expression, self._scopes.sources(seen)
            seen = None if seen.is_cte or seen.is_root else seen.parent

    def _of_bare_column(
        self, query: exp.Expr, sources: dict[str, Source], column: str
    ) -> set[Origin] | None:
        has = {name: self._scopes.has(source, column) for name, source in sources.items()}
        chosen = [name for name, answer in has.items() if answer]
        if _is_using(query, column):
            chosen = [name for name, answer in has.items() if answer is not False]
        elif not chosen and column in sources:
            if not isinstance(sources[column], ComputedSource):
                raise Unresolved(f"{column} is a whole row")
            chosen = [column]
        elif not chosen:
            chosen = [name for name, answer in has.items() if answer is None]
            if len(chosen) > 1:
                raise Unresolved(f"{column} may be a column of {' or '.join(sorted(chosen))}")
        if not chosen:
            return None
        return set().union(*(self._of_source(sources[name], column) for name in chosen))

    def _rows(self, scope: Scope) -> set[Origin]:
        if isinstance(scope.expression, exp.SetOperation):
            return set().union(*(self._rows(part) for part in self._scopes.sides(scope)))
        found: set[Origin] = set()
        for source in map(self._scopes.unwrapped, self._scopes.sources(scope).values()):
            if isinstance(source, Scope):
                found |= self._rows(source)
            elif not isinstance(source, ComputedSource):
                found.add(Origin(table_name(source), ROWS))
        return found


def _is_using(query: exp.Expr, column: str) -> bool:
    """Whether the column is one that `using` makes of several."""
    joins = query.args.get("joins") or ()
    return any(key.name == column for join in joins for key in join.args.get("using") or ())


def _is_whole_row(expression: exp.Expr) -> bool:
    star = isinstance(expression, exp.Column | exp.Star) and expression.is_star
    return star and not isinstance(expression.parent, exp.Count)


def _counts_rows(expression: exp.Expr) -> bool:
    return isinstance(expression, exp.Count | exp.Sum) and expression.find(exp.Column) is None
