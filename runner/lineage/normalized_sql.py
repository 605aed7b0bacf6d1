"""A query in the form in which two of them are compared, column by column.

Comments, layout, the case of keywords and the schemas of tables do not count. Nor does a column
that nothing needs: a query is kept as a *frame* (joins, filters, groups: what decides which rows
there are) and its *columns*, and a column of the result needs the frame and those columns that it
is computed from, by name. Where that may miss a use, every column counts as needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

# They may return several rows, so that the column decides how many rows there are.
_MAY_MULTIPLY = (exp.UDTF, exp.Explode, exp.GenerateSeries, exp.Anonymous)


@dataclass(frozen=True)
class QueryColumn:
    """A column that one `select`, or every branch of a `union all`, computes.

    Attributes
    ----------
    place
        The number of the select.
    name
        What others call it.
    sql
        What computes it.
    mentions
        Every name in `sql`, in lower case: BigQuery's columns have no case.
    """

    place: int
    name: str
    sql: str
    mentions: frozenset[str]


@dataclass(frozen=True)
class NormalizedSql:
    """A query as a frame and the columns that it can do without.

    Attributes
    ----------
    frame
        Its SQL without `columns`.
    mentions
        Every name in the frame, in lower case; None: all columns of what it reads count.
    """

    frame: str
    columns: tuple[QueryColumn, ...] = ()
    mentions: frozenset[str] | None = None

    def needed(self, names: Collection[str] | None) -> tuple[list[str], frozenset[str] | None]:
        """Return what the result columns `names` (None: all) are computed by, and from.

        Returns
        -------
        lines
            The frame's, then one per column.
        mentions
            The names of columns that may be taken of what the query reads; None: all.
        """
        if names is None or self.mentions is None:
            live = list(self.columns)
            known = None
        else:
            known = self.mentions.union(map(str.lower, names))
            live = []
            while found := [c for c in self.columns if c.name.lower() in known and c not in live]:
                live += found
                known = known.union(*(column.mentions for column in found))
        lines = sorted((column.place, column.sql) for column in live)
        return [*self.frame.splitlines(), *(sql for _, sql in lines)], known


def normalized(sql: str, dialect: str, relations: Mapping[str, str]) -> NormalizedSql:
    """Return the query in its normalized form; its words alone where sqlglot cannot read it.

    Parameters
    ----------
    relations
        Table as the query names it, quoted → what to call it instead.
    """
    try:
        tree = normalize_identifiers(sqlglot.parse_one(sql, read=dialect), dialect=dialect)
        is_divisible = _is_divisible(tree)
        _rename_tables(tree, dialect, relations)
        if not is_divisible:
            return NormalizedSql(_sql(tree, dialect))
        return _divided(tree, dialect)
    except (SqlglotError, RecursionError, ValueError):
        return NormalizedSql(" ".join(sql.split()))


def _sql(tree: exp.Expr, dialect: str) -> str:
    return tree.sql(dialect=dialect, pretty=True, comments=False)


def _rename_tables(tree: exp.Expr, dialect: str, relations: Mapping[str, str]) -> None:
    names = {_path(exp.to_table(table, dialect=dialect)): name for table, name in relations.items()}
    for table in tree.find_all(exp.Table):
        if (name := names.get(_path(table))) is not None:
            table.set("this", exp.to_identifier(name, quoted=True))
            table.set("db", None)
            table.set("catalog", None)
    for column in tree.find_all(exp.Column):  # `schema.table.column`
        column.set("db", None)
        column.set("catalog", None)


def _path(table: exp.Table) -> tuple[str, ...]:
    return tuple(part.name.lower() for part in table.parts)


def _is_divisible(tree: exp.Expr) -> bool:
    """Return whether a column is used only where its name is, or a whole select is taken."""
    if not isinstance(tree, exp.Query):
        return False
    if any(each.args.get("recursive") for each in tree.find_all(exp.With)):
        return False
    if any(each.args.get("method") == "NATURAL" for each in tree.find_all(exp.Join)):
        return False
    if any(not _is_projection(star) for star in tree.find_all(exp.Star)):
        return False
    # `pivot` groups by every column that it does not name, `ml.predict(table orders)` takes all.
    if tree.find(exp.Pivot) or any(
        isinstance(table.parent, exp.Func) for table in tree.find_all(exp.Table)
    ):
        return False
    unions = tree.find_all(exp.SetOperation)
    if any(select.is_star for union in unions for select in _branches(union)):  # by position
        return False
    # `to_json(orders)` takes every column of `orders`.
    named = {each.alias_or_name for each in tree.find_all(exp.Table, exp.CTE, exp.Subquery)}
    return not any(
        column.name in named and not column.table for column in tree.find_all(exp.Column)
    )


def _is_projection(star: exp.Star) -> bool:
    owner = star.parent if isinstance(star.parent, exp.Column) else star
    select = owner.parent
    if not isinstance(select, exp.Select):
        return isinstance(select, exp.Count)
    if _needs_all(select) or _last_ordinal(select):  # `select distinct *`, `order by 2`
        return False
    return isinstance(select.parent, exp.Exists) or _is_read_by_name(select)


def _divided(tree: exp.Expr, dialect: str) -> NormalizedSql:
    found = []
    columns = []
    for place, branches in enumerate(_results(tree)):
        for together in _removable(branches):
            found += together
            columns.append(
                QueryColumn(
                    place=place,
                    name=together[0].alias_or_name,
                    sql=" | ".join(_sql(each, dialect) for each in together),
                    mentions=frozenset(_names(together)),
                )
            )
    for column in found:
        column.pop()
    return NormalizedSql(_sql(tree, dialect), tuple(columns), frozenset(_names([tree])))


def _names(nodes: Iterable[exp.Expr]) -> Iterator[str]:
    for node in nodes:
        yield from (found.name.lower() for found in node.find_all(exp.Identifier))


def _results(tree: exp.Expr) -> Iterator[list[exp.Select]]:
    """Yield every select that is read as a table, those of one `union all` together."""
    seen: set[int] = set()
    for query in list(tree.find_all(exp.Select, exp.SetOperation)):
        if id(query) in seen or not _is_read_by_name(query):
            continue
        branches = _branches(query)
        seen |= {id(each) for each in query.find_all(exp.SetOperation)}
        seen |= {id(each) for each in branches}
        yield branches


def _branches(query: exp.Expr) -> list[exp.Select]:
    if isinstance(query, exp.SetOperation):
        return [*_branches(query.left), *_branches(query.right)]
    if isinstance(query, exp.Subquery):
        return _branches(query.this)
    return [query] if isinstance(query, exp.Select) else []


def _is_read_by_name(query: exp.Expr) -> bool:
    """Return whether the query is the result, a CTE or in `from`, with its own column names."""
    parent = query.parent
    while isinstance(parent, exp.Subquery | exp.SetOperation):
        if parent.args.get("alias") and parent.args["alias"].args.get("columns"):
            return False
        parent = parent.parent
    if isinstance(parent, exp.CTE):
        return not parent.args["alias"].args.get("columns")
    return parent is None or isinstance(parent, exp.From | exp.Join)


def _removable(branches: list[exp.Select]) -> Iterator[list[exp.Expr]]:
    """Yield the columns without which the rows are the same ones, per branch."""
    lengths = {len(select.expressions) for select in branches}
    unions = [each for select in branches for each in _set_operations(select)]
    plain = all(isinstance(each, exp.Union) and not each.args.get("distinct") for each in unions)
    if len(lengths) != 1 or not plain or any(_needs_all(select) for select in branches):
        return
    first = max(_last_ordinal(query) for query in [*branches, *unions])
    for together in list(zip(*(select.expressions for select in branches), strict=True))[first:]:
        if all(_is_plain(each) for each in together):
            yield list(together)


def _is_plain(column: exp.Expr) -> bool:
    """Return whether it is one named value per row."""
    is_named = isinstance(column, exp.Alias | exp.Column) and not column.is_star
    return is_named and column.find(*_MAY_MULTIPLY) is None


def _set_operations(select: exp.Select) -> Iterator[exp.SetOperation]:
    parent = select.parent
    while isinstance(parent, exp.Subquery | exp.SetOperation):
        if isinstance(parent, exp.SetOperation):
            yield parent
        parent = parent.parent


def _needs_all(select: exp.Select) -> bool:
    if select.args.get("distinct") or select.args.get("kind"):
        return True
    group = select.args.get("group")
    if group is None:  # `select count(*)` is one row, and without the count it would be many
        return any(
            each.find_ancestor(exp.Window, exp.Select) is select
            for column in select.expressions
            for each in column.find_all(exp.AggFunc)
        )
    return bool(group.args.get("all"))


def _last_ordinal(query: exp.Query) -> int:
    """Return the largest number that `group by 1, 2` or `order by 1` names."""
    clauses = [query.args[name] for name in ("group", "order") if query.args.get(name)]
    items = [item for clause in clauses for item in clause.expressions]
    items = [item.this if isinstance(item, exp.Ordered) else item for item in items]
    return max((int(each.name) for each in items if each.is_int), default=0)
