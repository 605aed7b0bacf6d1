"""Which columns of which tables a query's result columns take their values from.

Pure: SQL text in, names out. Of values, not of filters: what is in `where`, `having`, `on` and
`group by`, and how a window is divided and ordered, decides which rows count, not what a column
holds. What cannot be resolved raises `Unresolved`; nothing is guessed.
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


ColumnsOf = Callable[[tuple[str, ...]], Collection[str] | None]

_Source: TypeAlias = "Scope | exp.Table | _Computed"
"""What a from clause may name."""


class _Expression(NamedTuple):
    """A result column that the query computes."""

    scope: Scope
    node: exp.Expr


class _SourceColumn(NamedTuple):
    """A result column that is a column (or all, `*`) of something in `from`."""

    source: _Source
    column: str


_Output = _Expression | _SourceColumn


class Query:
    """One SELECT, asked column by column.

    Parameters
    ----------
    dialect
        sqlglot's name of it: `postgres` or `bigquery`.
    columns_of
        Returns every column of a table, or None where they are not known.

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
        self._root = root
        self._columns_of = columns_of
        self._scopes = {id(scope.expression): scope for scope in root.traverse()}
        self._outputs_of: dict[int, dict[str, list[_Output]]] = {}
        self._found: dict[tuple[int, str], set[Origin]] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The result columns whose names are known."""
        return tuple(name for name in self._outputs(self._root) if name != ROWS)

    @property
    def is_open(self) -> bool:
        """Whether it has more columns: `select *` from a table whose columns are not known."""
        return ROWS in self._outputs(self._root)

    def origins(self, column: str) -> set[Origin]:
        """Return the columns that `column` (`*`: the rows) is computed from; constants have none.

        Raises
        ------
        Unresolved
            If that is unknown.
        """
        if column == ROWS:
            return self._rows(self._root)
        return self._of_scope(self._root, column)

    def _of_scope(self, scope: Scope, column: str) -> set[Origin]:
        key = (id(scope), column)
        if key not in self._found:
            self._found[key] = self._of_outputs(scope, column)
        return self._found[key]

    def _of_outputs(self, scope: Scope, column: str) -> set[Origin]:
        outputs = self._outputs(scope)
        chosen = outputs.get(column)
        if chosen is None:
            stars = [o.source for o in outputs.get(ROWS, []) if isinstance(o, _SourceColumn)]
            sources = [source for source in stars if self._has(source, column) is None]
            if not sources:
                raise Unresolved(f"its SQL has no column {column}")
            if len(sources) > 1:
                raise Unresolved(f"{column} may come from any of several `*`")
            chosen = [_SourceColumn(sources[0], column)]
        found: set[Origin] = set()
        for output in chosen:
            if isinstance(output, _Expression):
                found |= self._of_expression(output.scope, output.node)
            else:
                found |= self._of_source(output.source, output.column)
        return found

    def _outputs(self, scope: Scope) -> dict[str, list[_Output]]:
        """Return the scope's result columns in their order; `*` is what a star may also bring."""
        if id(scope) not in self._outputs_of:
            self._outputs_of[id(scope)] = self._find_outputs(scope)
        return self._outputs_of[id(scope)]

    def _find_outputs(self, scope: Scope) -> dict[str, list[_Output]]:
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

    def _set_operation(self, scope: Scope) -> dict[str, list[_Output]]:
        left, right = (self._outputs(part) for part in self._sides(scope))
        if scope.expression.args.get("by_name"):
            raise Unresolved("a union by name is not understood")
        self._require_positions(left)
        self._require_positions(right)
        return {
            name: [*ours, *theirs]
            for (name, ours), theirs in zip(left.items(), right.values(), strict=False)
        }

    def _sides(self, scope: Scope) -> list[Scope]:
        """Return the scopes of both sides of a union, intersect or except."""
        sides = (scope.expression.this, scope.expression.expression)
        scopes = [self._scopes.get(id(side.unnest())) for side in sides]
        known = [side for side in scopes if side is not None]
        if len(known) < len(scopes):
            raise Unresolved("a union's side is not understood")
        return known

    @staticmethod
    def _require_positions(outputs: dict[str, list[_Output]]) -> None:
        if ROWS in outputs:
            raise Unresolved("the columns of a `*` in a union or a renamed table are not known")

    def _item(self, scope: Scope, item: exp.Expr) -> Iterator[tuple[str, _Output]]:
        """Yield the result columns of one item of a select list, stars spelled out."""
        if not item.is_star:
            yield item.output_name, _Expression(scope, item)
            return
        star = item.this if isinstance(item, exp.Column) else item
        if star.args.get("rename"):
            raise Unresolved("`* rename` is not understood")
        hidden = {column.name for column in star.args.get("except_") or ()}
        replaced = {alias.alias: alias for alias in star.args.get("replace") or ()}
        sources = self._sources(scope)
        table = item.table if isinstance(item, exp.Column) else ""
        if table and table not in sources:
            raise Unresolved(f"`{table}.*` is of nothing in its from clause")
        for source in [sources[table]] if table else sources.values():
            for column in self._names(source):
                if column in replaced:
                    yield column, _Expression(scope, replaced[column])
                elif column not in hidden:
                    yield column, _SourceColumn(source, column)

    def _names(self, source: _Source) -> Collection[str]:
        """Return the source's columns; with `*` among them there may be more."""
        source = self._unwrapped(source)
        if isinstance(source, Scope):
            return self._outputs(source)
        if isinstance(source, _Computed):
            return source.columns or [ROWS]
        known = self._columns_of(_name(source))
        return [ROWS] if known is None else known

    def _has(self, source: _Source, column: str) -> bool | None:
        """Whether the source has the column; None where that is not known."""
        names = self._names(source)
        return True if column in names else None if ROWS in names else False

    def _sources(self, scope: Scope) -> dict[str, _Source]:
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
        found: dict[str, _Source] = {}
        for name, (node, source) in scope.selected_sources.items():
            if _is_computed(node, source):
                found[name] = _Computed(node, source, scope)
            else:
                # An ephemeral dbt model has columns of its own, as if it were a table.
                found[name] = node if _is_ephemeral(node) else source
        return found

    def _unwrapped(self, source: _Source) -> _Source:
        """Return the query in a lateral join; any other source as it is."""
        if isinstance(source, _Computed) and isinstance(source.node, exp.Lateral):
            return self._scopes.get(id(source.node.this.unnest()), source)
        return source

    def _of_source(self, source: _Source, column: str) -> set[Origin]:
        source = self._unwrapped(source)
        if isinstance(source, Scope):
            return self._rows(source) if column == ROWS else self._of_scope(source, column)
        if isinstance(source, _Computed):
            return self._of_expression(source.scope, source.node)
        return {Origin(_name(source), column)}

    def _of_expression(self, scope: Scope, expression: exp.Expr) -> set[Origin]:
        """Return the origins of everything that the expression is computed from."""
        query = self._scopes.get(id(expression))
        if query is not None and query is not scope and not isinstance(expression, exp.UDTF):
            names = self._outputs(query)
            if ROWS in names:
                raise Unresolved("a subquery's `*` is not known")
            return set().union(*(self._of_scope(query, name) for name in names))
        if _is_whole_row(expression):
            raise Unresolved("a whole row is taken")
        if isinstance(expression, exp.Exists) and id(expression.this) in self._scopes:
            return self._rows(self._scopes[id(expression.this)])
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

    def _visible(self, scope: Scope) -> Iterator[tuple[exp.Expr, dict[str, _Source]]]:
        """Yield the scope's query and its sources, then those around it that it may name."""
        seen: Scope | None = scope
        while seen is not None:
            if isinstance(seen.expression, exp.Select):
                yield seen.expression, self._sources(seen)
            seen = None if seen.is_cte or seen.is_root else seen.parent

    def _of_bare_column(
        self, query: exp.Expr, sources: dict[str, _Source], column: str
    ) -> set[Origin] | None:
        has = {name: self._has(source, column) for name, source in sources.items()}
        chosen = [name for name, answer in has.items() if answer]
        if _is_using(query, column):
            chosen = [name for name, answer in has.items() if answer is not False]
        elif not chosen and column in sources:
            if not isinstance(sources[column], _Computed):
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
            return set().union(*(self._rows(part) for part in self._sides(scope)))
        found: set[Origin] = set()
        for source in map(self._unwrapped, self._sources(scope).values()):
            if isinstance(source, Scope):
                found |= self._rows(source)
            elif not isinstance(source, _Computed):
                found.add(Origin(_name(source), ROWS))
        return found


class _Computed:
    """A function or a list of values in a from clause, whose columns are made of its arguments."""

    def __init__(self, node: exp.Expr, source: _Source, scope: Scope) -> None:
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


def _is_computed(node: exp.Expr, source: _Source) -> bool:
    if isinstance(source, Scope):
        return isinstance(source.expression, exp.UDTF)
    return not isinstance(node.this, exp.Identifier)


def _is_ephemeral(node: exp.Expr) -> TypeGuard[exp.Table]:
    return isinstance(node, exp.Table) and node.name.startswith(EPHEMERAL)


def _is_using(query: exp.Expr, column: str) -> bool:
    """Whether the column is one that `using` makes of several."""
    joins = query.args.get("joins") or ()
    return any(key.name == column for join in joins for key in join.args.get("using") or ())


def _is_whole_row(expression: exp.Expr) -> bool:
    star = isinstance(expression, exp.Column | exp.Star) and expression.is_star
    return star and not isinstance(expression.parent, exp.Count)


def _counts_rows(expression: exp.Expr) -> bool:
    return isinstance(expression, exp.Count | exp.Sum) and expression.find(exp.Column) is None


def _name(table: exp.Table) -> tuple[str, ...]:
    return tuple(part.name for part in table.parts)
