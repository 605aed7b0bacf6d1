"""The table of keys in docs/recipe.md, made from the recipe's JSON Schema.

`python -m runner.recipes.keys_table docs/recipe.md` renews it there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner import duration
from runner.recipes.schema import recipe_schema

_FEW = 4
_HEAD = "| Key | Value | Meaning | Default |\n|---|---|---|---|\n"
_TABLE = re.compile(re.escape(_HEAD) + r"(\|.*\n)+")
_TYPES = {
    "array": "list",
    "boolean": "flag",
    "integer": "whole number",
    "number": "number",
    "object": "keys",
    "string": "text",
}

SchemaPart = Mapping[str, Any]


def recipe_reference() -> str:
    """Return the table, a line per key: its value, what it means, and its default."""
    schema = recipe_schema()
    return _HEAD + "".join(_rows(schema, schema["$defs"], ""))


def renew(path: Path) -> None:
    """Replace the table in the page at `path`, which has one."""
    table = recipe_reference()
    path.write_text(_TABLE.sub(lambda _: table, path.read_text()))


def _rows(part: SchemaPart, parts: Mapping[str, SchemaPart], prefix: str) -> Iterator[str]:
    for name, key in part["properties"].items():
        described = _resolved(key, parts)
        cells = (f"`{prefix}{name}`", _value(described), _meaning(key), _default(part, name, key))
        yield f"| {' | '.join(cells)} |\n"
        if "properties" in described:
            yield from _rows(described, parts, f"{prefix}{name}.")
        each = described.get("additionalProperties")  # of keys that the user names
        if isinstance(each, dict) and "$ref" in each:
            yield from _rows(_resolved(each, parts), parts, f"{prefix}{name}.*.")


def _resolved(key: SchemaPart, parts: Mapping[str, SchemaPart]) -> SchemaPart:
    """Return what describes the value: itself, the part it refers to, or that beside null."""
    for option in key.get("anyOf", [key]):
        if "$ref" in option:
            return parts[option["$ref"].rpartition("/")[2]]
        if option.get("type") != "null":
            return {**key, **option}
    return key


def _value(key: SchemaPart) -> str:
    choices = [choice for choice in key.get("enum", ()) if choice is not None]
    if "const" in key:
        choices = [key["const"]]
    if 0 < len(choices) <= _FEW:
        return " or ".join(f"`{choice}`" for choice in choices)
    if key.get("pattern") == duration.PATTERN:
        return "duration"
    low, high = key.get("minimum"), key.get("maximum")
    bounds = f" from {low}" if low is not None else ""
    return _TYPES[key["type"]] + bounds + (f" to {high}" if high is not None else "")


def _meaning(key: SchemaPart) -> str:
    return re.sub(r"docs/(\w+\.md)(#[\w-]+)?", r"[\1](\1\2)", key["description"])


def _default(part: SchemaPart, name: str, key: SchemaPart) -> str:
    choices = [choice["required"] for choice in part.get("oneOf", ())]
    if any(name in required for required in choices):
        return " or ".join(" and ".join(f"`{each}`" for each in required) for required in choices)
    if name in part.get("required", ()):
        return "required"
    default = key["default"]
    if isinstance(default, dict) and default:
        return "as below"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default or default == 0 else "none"


if __name__ == "__main__":
    renew(Path(sys.argv[1]))
