"""The scopes of one query: the columns that each has, and where each takes them from.

Pure: SQL text in. What cannot be resolved raises `Unresolved`; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple, TypeAlias, TypeGuard

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers
from sqlglot.optimizer.scope import Scope, build_scope

from runner.lineage.lineage_graph import ROWS

EPHEMERAL = "__dbt__cte__"  # so begin the names of the CTEs that dbt makes of ephemeral dbt models


class Unresolved(Exception):  # noqa: N818  (an answer, not an error)
    """Why a column's origins cannot be resolved."""


ColumnsOf = Callable[[tuple[str, ...]], Collection[str] | None]

Source: TypeAlias = "Scope | exp.Table | ComputedSource"
"""What a from clause may name."""


class OutputExpression(NamedTuple):
    """A result column that the query computes."""

    scope: Scope
    node: exp.Expr


class OutputColumn(NamedTuple):
    """A result column that is a column (or all, `*`) of something in `from`."""

    source: Source
    column: str


Output = OutputExpression | OutputColumn


class QueryScopes:
    """One SELECT and the queries in it.

    Parameters
    ----------
    dialect
        sqlglot's name of it: `postgres` or `bigquery`.
    columns_of
        Returns every column of a table, or None where they are not known.

    Attributes
    ----------
    root
        The scope of the whole.

    Raises
    ------
    Unresolved
        If the SQL cannot be read, or is no query.
    """

    def __init__(self, sql: str, dialect: str, columns_of: ColumnsOf) -> None:
        try:
            tree = normalize_identifiers(parse_one(sql, dialect=dialect), dialect=dialect)
            root = build_scope(tree)
        except SqlglotError as err:
            reason = str(err).splitlines()[0]
            raise Unresolved(f"its SQL cannot be read ({reason})") from err
        if root is None:
            raise Unresolved("its SQL is no SELECT")
        if any(clause.recursive for clause in tree.find_all(exp.With)):
            raise Unresolved("a recursive query is not understood")
        self.root = root
        self._columns_of = columns_of
        self._scopes = {id(scope.expression): scope for scope in root.traverse()}
        self._outputs_of: dict[int, dict[str, list[Output]]] = {}

    def of(self, expression: exp.Expr) -> Scope | None:
        """Return the scope of an expression that is a query."""
        return self._scopes.get(id(expression))

    def outputs(self, scope: Scope) -> dict[str, list[Output]]:
        """Return the scope's result columns in their order; `*` is what a star may also bring."""
        if id(scope) not in self._outputs_of:
            self._outputs_of[id(scope)] = self._find_outputs(scope)
        return self._outputs_of[id(scope)]

    def _find_outputs(self, scope: Scope) -> dict[str, list[Output]]:
        if isinstance(scope.expression, exp.SetOperation):
            found = self._set_operation(scope)
        else:
            found = {}
            for position, item in enumerate(_select_list(scope)):
                for name, output in self._item(scope, item):
                    found.setdefault(name or f"_{position}", []).append(output)
        if not scope.outer_columns:
            return found
        self._require_positions(found)
        return dict(zip(scope.outer_columns, found.values(), strict=False))

    def _set_operation(self, scope: Scope) -> dict[str, list[Output]]:
        left, right = (self.outputs(part) for part in self.sides(scope))
        if scope.expression.args.get("by_name"):
            raise Unresolved("a union by name is not understood")
        self._require_positions(left)
        self._require_positions(right)
        return {
            name: [*ours, *theirs]
            for (name, ours), theirs in zip(left.items(), right.values(), strict=False)
        }

    def sides(self, scope: Scope) -> list[Scope]:
        """Return the scopes of both sides of a union, intersect or except."""
        sides = (scope.expression.this, scope.expression.expression)
        scopes = [self._scopes.get(id(side.unnest())) for side in sides]
        known = [side for side in scopes if side is not None]
        if len(known) < len(scopes):
            raise Unresolved("a union's side is not understood")
        return known

    @staticmethod
    def _require_positions(outputs: dict[str, list[Output]]) -> None:
        if ROWS in outputs:
            raise Unresolved("the columns of a `*` in a union or a renamed table are not known")

    def _item(self, scope: Scope, item: exp.Expr) -> Iterator[tuple[str, Output]]:
        """Yield the result columns of one item of a select list, stars spelled out."""
        if not item.is_star:
            yield item.output_name, OutputExpression(scope, item)
            return
        star = item.this if isinstance(item, exp.Column) else item
        if star.args.get("rename"):
            raise Unresolved("`* rename` is not understood")
        hidden = {column.name for column in star.args.get("except_") or ()}
        replaced = {alias.alias: alias for alias in star.args.get("replace") or ()}
        sources = self.sources(scope)
        table = item.table if isinstance(item, exp.Column) else ""
        if table and table not in sources:
            raise Unresolved(f"`{table}.*` is of nothing in its from clause")
        for source in [sources[table]] if table else sources.values():
            for column in self._names(source):
                if column in replaced:
                    yield column, OutputExpression(scope, replaced[column])
                elif column not in hidden:
                    yield column, OutputColumn(source, column)

    def _names(self, source: Source) -> Collection[str]:
        """Return the source's columns; with `*` among them there may be more."""
        source = self.unwrapped(source)
        if isinstance(source, Scope):
            return self.outputs(source)
        if isinstance(source, ComputedSource):
            return source.columns or [ROWS]
        known = self._columns_of(table_name(source))
        return [ROWS] if known is None else known

    def has(self, source: Source, column: str) -> bool | None:
        """Whether the source has the column; None where that is not known."""
        names = self._names(source)
        return True if column in names else None if ROWS in names else False

    def sources(self, scope: Scope) -> dict[str, Source]:
        """Return the relations in the scope's from clause by their names there."""
        query = scope.expression
        joins = query.args.get("joins") or ()
        if any(join.method == "NATURAL" for join in joins):
            raise Unresolved("a natural join is not understood")
        wanted = len(joins) + len(query.args.get("laterals") or ())
        wanted += any(query.args.get(key) is not None for key in ("from_", "from"))
        if wanted != len(scope.selected_sources) or scope.pivots:
            raise Unresolved("its from clause is not understood")
        for node, source in scope.selected_sources.values():
            renamed = isinstance(node, exp.Table) and node.alias_column_names
            if renamed and not _is_computed(node, source):
                raise Unresolved("a table whose columns are renamed is not understood")
        found: dict[str, Source] = {}
        for name, (node, source) in scope.selected_sources.items():
            if _is_computed(node, source):
                found[name] = ComputedSource(node, source, scope)
            else:
                # An ephemeral dbt model has columns of its own, as if it were a table.
                found[name] = node if _is_ephemeral(node) else source
        return found

    def unwrapped(self, source: Source) -> Source:
        """Return the query in a lateral join; any other source as it is."""
        if isinstance(source, ComputedSource) and isinstance(source.node, exp.Lateral):
            return self._scopes.get(id(source.node.this.unnest()), source)
        return source


class ComputedSource:
    """A function or a list of values in a from clause, whose columns are made of its arguments."""

    def __init__(self, node: exp.Expr, source: Source, scope: Scope) -> None:
        self.node, self.scope = node, scope
        names = source.outer_columns if isinstance(source, Scope) else ()
        self.columns = list(names) or list(node.alias_column_names)
        offset = node.args.get("offset")
        if isinstance(offset, exp.Expression) and offset.name not in self.columns:
            self.columns.append(offset.name)


def _select_list(scope: Scope) -> list[exp.Expr]:
    query = scope.expression
    if not isinstance(query, exp.Query | exp.Table | exp.UDTF):
        raise Unresolved("its SQL is no SELECT")
    return query.selects


def _is_computed(node: exp.Expr, source: Source) -> bool:
    if isinstance(source, Scope):
        return isinstance(source.expression, exp.UDTF)
    return not isinstance(node.this, exp.Identifier)


def _is_ephemeral(node: exp.Expr) -> TypeGuard[exp.Table]:
    return isinstance(node, exp.Table) and node.name.startswith(EPHEMERAL)


def table_name(table: exp.Table) -> tuple[str, ...]:
    """Return the table's name as the query writes it: database, schema, name, as far as given."""
    return tuple(part.name for part in table.parts)
