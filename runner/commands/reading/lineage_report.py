"""The answers of `runner lineage` as text, as a Mermaid graph and in JSON's types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from runner import console
from runner.commands.reading.column_users import User
from runner.commands.reading.lineage import LineageAnswer
from runner.lineage.lineage_graph import Lineage, LineageColumn

_TITLES = {
    "feature": "features",
    "request": "request inputs",
    "computed": "computed from these",
    "label": "label",
}
"""What `runner lineage` shows of a recipe, by role."""
_FIGURES = "monitoring.figures"


def show_lineage(answer: LineageAnswer, form: str, *, as_json: bool) -> None:
    """Print the answer as text, as a Mermaid graph (`form` is `mermaid`) or as JSON."""
    if as_json:
        console.result_json(as_json_types(answer))
    else:
        console.result(as_mermaid(answer) if form == "mermaid" else as_text(answer))


def as_text(answer: LineageAnswer) -> str:
    """Return the answer for people: trees or a table, then recipes, versions and gaps."""
    sections = _recipe_sections(answer) if answer.is_recipe else _column_sections(answer)
    if answer.unresolved:
        gaps = [f"{name}: {reason}" for name, reason in answer.unresolved.items()]
        sections["could not be resolved"] = gaps
    lines = [answer.what]
    for title, content in sections.items():
        lines += ["", title, *(f"  {line}" for line in content)]
    return "\n".join(lines)


def as_json_types(answer: LineageAnswer) -> dict[str, Any]:
    """Return the answer in JSON's types; `upstream` is column → what it is computed from."""
    lineage = answer.lineage
    return {
        "asked": answer.what,
        "features": {
            str(start): {"raw_columns": lineage.raw_columns(start)} for start in answer.starts
        },
        "raw_tables": _raw_tables(answer),
        "upstream": _edges(answer, _upstream(answer)),
        "downstream": [str(column) for column in answer.downstream if column not in answer.starts],
        "readers": _readers(answer),
        "recipes": [_user(user, answer) for user in answer.recipes],
        "model_versions": [_user(user, answer) for user in answer.versions],
        "after_the_answer": _after(answer),
        "unresolved": answer.unresolved,
    }


def as_mermaid(answer: LineageAnswer) -> str:
    """Return the answer as a Mermaid flowchart, from raw columns to model versions."""
    columns = dict.fromkeys((*_upstream(answer), *answer.downstream))
    ids = {name: f"n{i}" for i, name in enumerate(_mermaid_names(answer, columns))}
    lines = ["flowchart LR"]
    lines += [f'    {key}["{name}"]' for name, key in ids.items()]
    for column in columns:
        for parent in answer.lineage.parents.get(column, ()):
            if parent in columns:
                lines.append(f"    {ids[str(parent)]} --> {ids[str(column)]}")
    for user in answer.recipes:
        lines += [f"    {ids[str(c)]} --> {ids[user.name]}" for c in user.uses(columns)]
    for version in answer.versions:
        origins = [user.name for user in answer.recipes if user.model == version.model]
        names = origins or [str(column) for column in version.uses(columns)]
        lines += [f"    {ids[name]} --> {ids[_shown(version)]}" for name in names]
    if answer.outcome:
        shown = [ids[_shown(version)] for version in answer.versions]
        lines += [f"    {each} --> {ids[answer.outcome]}" for each in shown]
        lines.append(f"    {ids[answer.outcome]} --> {ids[_FIGURES]}")
    return "\n".join(lines)


def _mermaid_names(answer: LineageAnswer, columns: Iterable[LineageColumn]) -> Iterator[str]:
    yield from map(str, columns)
    yield from (user.name for user in answer.recipes)
    yield from map(_shown, answer.versions)
    yield from _after(answer)


def _column_sections(answer: LineageAnswer) -> dict[str, list[str]]:
    lineage, (start,) = answer.lineage, answer.starts
    sections = {}
    if start.relation not in lineage.raw:
        nothing = "not known" if start in lineage.unresolved else "nothing: a constant"
        sections["upstream"] = list(_tree(start, lineage.parents)) or [nothing]
        sections["raw columns"] = _origins(lineage, start) or ["none"]
        sections["raw tables read, to filter and to join too"] = lineage.raw_tables(start.relation)
    sections["downstream"] = list(_tree(start, lineage.children)) or ["no column"]
    sections |= _user_sections(answer)
    if _readers(answer):
        sections["dbt models that read the table, and may filter or join by it"] = _readers(answer)
    return sections


def _recipe_sections(answer: LineageAnswer) -> dict[str, list[str]]:
    [recipe] = answer.recipes
    sections: dict[str, list[str]] = {}
    for role, title in _TITLES.items():
        columns = [start for start in answer.starts if recipe.columns[start] == role]
        if not columns:
            continue
        nothing = "the asked instant" if role == "computed" else "a constant"
        width = max(len(str(column)) for column in columns)
        sections[title] = [
            f"{column!s:{width}}  {', '.join(_origins(answer.lineage, column)) or nothing}"
            for column in columns
        ]
    sections["model versions"] = [_shown(user) for user in answer.versions] or ["none"]
    after = _after(answer)
    width = max(map(len, after), default=0)
    if after:
        sections["after the answer"] = [f"{name:{width}}  {what}" for name, what in after.items()]
    return sections


def _after(answer: LineageAnswer) -> dict[str, str]:
    """Return what is made of a recipe's answers: relation → what it is."""
    if not answer.outcome:
        return {}
    tables = ", ".join(answer.lineage.raw_tables(answer.outcome))
    served = "the served rows with their labels"
    return {
        answer.outcome: f"{served}, from {tables}" if tables else served,
        _FIGURES: "drift, live quality and skew by day, by runner monitor",
    }


def _origins(lineage: Lineage, column: LineageColumn) -> list[str]:
    """Return the raw columns that a column comes from, and whether there may be others."""
    raw = lineage.raw_columns(column)
    return [*raw, "what could not be resolved"] if lineage.gaps(column) else raw


def _user_sections(answer: LineageAnswer) -> dict[str, list[str]]:
    below = answer.downstream
    return {
        "recipes": [
            f"{user.name}  {', '.join(f'{c} ({role})' for c, role in user.uses(below).items())}"
            for user in answer.recipes
        ]
        or ["none"],
        "model versions": [_shown(user) for user in answer.versions] or ["none"],
    }


def _readers(answer: LineageAnswer) -> list[str]:
    """Return the dbt models below a raw table in which the column may filter, join or group."""
    if answer.is_recipe or answer.starts[0].relation not in answer.lineage.raw:
        return []
    return answer.lineage.readers(answer.starts[0].relation)


def _raw_tables(answer: LineageAnswer) -> list[str]:
    relations = {start.relation for start in answer.starts}
    return sorted({table for name in relations for table in answer.lineage.raw_tables(name)})


def _upstream(answer: LineageAnswer) -> tuple[LineageColumn, ...]:
    found = (column for start in answer.starts for column in answer.lineage.upstream(start))
    return tuple(dict.fromkeys(found))


def _edges(answer: LineageAnswer, columns: Iterable[LineageColumn]) -> dict[str, list[str]]:
    parents = answer.lineage.parents
    return {str(c): [str(parent) for parent in parents[c]] for c in columns if parents.get(c)}


def _user(user: User, answer: LineageAnswer) -> dict[str, Any]:
    return {
        "name": user.name,
        "registered_model_name": user.model,
        "aliases": list(user.aliases),
        "uses": {str(column): role for column, role in user.uses(answer.downstream).items()},
    }


def _shown(version: User) -> str:
    model, _, number = version.name.rpartition("/")
    aliases = f" ({', '.join(version.aliases)})" if version.aliases else ""
    return f"{model} version {number}{aliases}"


def _tree(
    column: LineageColumn,
    edges: Mapping[LineageColumn, Iterable[LineageColumn]],
    depth: int = 0,
    seen: set[LineageColumn] | None = None,
) -> Iterator[str]:
    """Yield an indented line for all that is reached; what was shown is not unfolded again."""
    seen = set() if seen is None else seen
    for neighbour in sorted(edges.get(column, ())):
        again = neighbour in seen and bool(edges.get(neighbour))
        yield f"{'  ' * depth}{neighbour}{'  (see above)' if again else ''}"
        if neighbour not in seen:
            seen.add(neighbour)
            yield from _tree(neighbour, edges, depth + 1, seen)
