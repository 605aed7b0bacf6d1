"""The order of the code: one name for one thing, imports without a circle, few `Any`."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Former paths that existing projects name, and the files of a new project: neither is our code.
NOT_OURS = {"features", "skeleton"}
TWINS = {"postgres", "bigquery"}


def modules():
    """Return our modules: dotted name → syntax tree."""
    found = {}
    for package in ("contract", "runner", "serving"):
        for file in (ROOT / package).rglob("*.py"):
            path = file.relative_to(ROOT)
            if package == "runner" and path.parts[1] in NOT_OURS:
                continue
            name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(file.read_text(), str(path))
    return found


MODULES = modules()


def test_no_two_classes_have_one_name():
    places = defaultdict(list)
    for module, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module)
    assert {name: at for name, at in places.items() if len(at) > 1} == {}


def test_no_two_files_have_one_name_but_in_the_twin_folders():
    names = Counter(
        module.rpartition(".")[2]
        for module in MODULES
        if not TWINS & set(module.split(".")[:-1])
        and not module.endswith("__main__")
        and not (ROOT / Path(*module.split("."))).is_dir()
    )
    assert [name for name, count in names.items() if count > 1] == []


def imported(module, tree):
    """Yield the modules of ours that a module imports anywhere, for type checking included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                target = full if full in MODULES else node.module
                if target in MODULES and target != module:
                    yield target


def test_imports_have_no_circle_not_even_in_typing():
    graph = {module: set(imported(module, tree)) for module, tree in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as err:
        pytest.fail(f"circle: {' -> '.join(err.args[1])}")


def test_only_the_cli_prints_what_a_command_reports():
    prints = ("_report", "_page")
    importers = {
        name
        for name, tree in MODULES.items()
        for target in imported(name, tree)
        if target.startswith("runner.commands.") and target.endswith(prints)
    }
    assert importers
    assert {
        n for n in importers if not n.startswith("runner.cli.") and not n.endswith(prints)
    } == set()


def test_any_is_rare():
    lines = sum(len((ROOT / f).read_text().splitlines()) for f in files())
    used = sum(
        isinstance(node, ast.Name) and node.id == "Any"
        for tree in MODULES.values()
        for node in ast.walk(tree)
    )
    assert used / lines * 1000 <= 8, f"{used} in {lines:,} lines"


def files():
    """Yield the files of our modules."""
    for module in MODULES:
        path = Path(*module.split("."))
        yield path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
