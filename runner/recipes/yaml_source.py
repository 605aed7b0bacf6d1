"""YAML with a place for every value, so that an error can say where it is.

Beside what `yaml_nodes` refuses, duplicate keys (of which one would silently win) and files too
large are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yaml import MappingNode, MarkedYAMLError, Node, ScalarNode, SequenceNode
from yaml.error import Mark
from yaml.reader import ReaderError

from runner.errors import CombinedError, RunnerError
from runner.recipes.yaml_nodes import TEXT, RefusalError, compose_mapping, scalar
from runner.wording import show

MAX_BYTES = 64 * 1024

_UNCLOSED = {
    "while parsing a flow mapping": "bracket {",
    "while parsing a flow sequence": "bracket [",
    "while scanning a quoted scalar": "quote",
}

KeyPath = tuple[str | int, ...]
"""Keys and list indexes from the top of the file to a value."""


class Position(NamedTuple):
    """A place in a file; both count from 1."""

    line: int
    column: int


class Problem(NamedTuple):
    """What is wrong with the value at `path`, and what to do about it."""

    path: KeyPath
    message: str
    hint: str


@dataclass(frozen=True)
class YamlSource:
    """A YAML file: its values and where they stand.

    Attributes
    ----------
    text
        The file as it was read.
    data
        Plain values: dict, list, str, int (64 bits), float (finite), bool and None.
    positions
        Where each value is: a list item itself, any other value by its key.
    empty
        The paths of the values that are not written, in the file's order; `null` is written.
    """

    path: Path
    text: str
    data: dict[str, object]
    positions: Mapping[KeyPath, Position]
    empty: Sequence[KeyPath] = ()

    def error(self, path: KeyPath, message: str, hint: str) -> RunnerError:
        """Return the error that says `file:line:column: key: message`."""
        return RunnerError(self._locate(Problem(path, message, hint)), hint=hint)

    def errors(self, problems: Sequence[Problem], hint: str = "") -> RunnerError:
        """Return one error that lists every problem (at least one), in the file's order.

        Parameters
        ----------
        hint
            What to do about several; default: correct the file.
        """
        ordered = sorted(problems, key=lambda problem: self.position(problem.path))
        if len(ordered) == 1:
            return self.error(*ordered[0])
        return CombinedError(
            [self.error(*problem) for problem in ordered],
            hint=hint
            or f"correct these {len(ordered)} places, which `runner check {self.path}` lists one "
            "by one, then run the same command again",
        )

    def position(self, path: KeyPath) -> Position:
        """Return where the value at `path` is; for a missing one, what should hold it."""
        while path not in self.positions:
            path = path[:-1]
        return self.positions[path]

    def _locate(self, problem: Problem) -> str:
        line, column = self.position(problem.path)
        key = f"{dotted(problem.path)}: " if problem.path else ""
        return f"{self.path}:{line}:{column}: {key}{problem.message}"


def load_yaml(path: Path) -> YamlSource:
    """Return the mapping in the YAML file at `path`, with positions.

    Raises
    ------
    RunnerError
        If the file cannot be read, is not valid YAML, or holds what is refused (see above). The
        message names file, line and column.
    """
    text = _read(path)
    positions: dict[KeyPath, Position] = {}
    try:
        root = compose_mapping(text)
        positions[()] = _position(root.start_mark)
        data = _mapping(root, (), positions)
    except RefusalError as err:
        raise _error(path, _position(err.mark), err.message, err.hint) from err
    except MarkedYAMLError as err:
        raise _error(path, *_told(err)) from err
    except ReaderError as err:
        position = _position_of(text[: err.position])
        raise _error(path, position, "a control character", "delete it") from err
    except (OverflowError, ValueError) as err:  # PyYAML on "\UFFFFFFFF" and on absurd numbers
        raise _error(path, Position(1, 1), f"not valid YAML: {err}", "correct it") from err
    return YamlSource(path, text, data, positions, tuple(_empty(root, ())))


def _told(err: MarkedYAMLError) -> tuple[Position, str, str]:
    """Return where PyYAML's error lies, and what it means for whoever wrote the file."""
    problem, mark = err.problem or "", err.problem_mark
    hint = "indent keys alike; text that holds `: `, ` #` or a bracket needs quotes"
    told = f"not valid YAML: {problem}"
    if "'\\t'" in problem:
        told, hint = "not valid YAML: a tab", "write spaces instead"
    elif "cannot start any token" in problem:
        hint = "text that begins with this character needs quotes"
    elif problem == "but found another document":
        told, hint = "a second document begins", "write each into a file of its own"
    elif problem == "could not find expected ':'":
        # It is missed where the next line begins.
        mark = err.context_mark
        told, hint = "expected `key: value`", "write the colon, and a space after it"
    elif err.context in {"while scanning an alias", "while scanning an anchor"}:
        mark = err.context_mark
        told = "not valid YAML: text that begins with * or & is not in quotes"
        hint = 'put it in quotes, such as "user_activity:*"'
    elif err.context in _UNCLOSED and err.context_mark is not None:
        hint = (
            f"close the {_UNCLOSED[err.context]} that opens in line {err.context_mark.line + 1}; "
            "text that holds one needs quotes"
        )
    elif problem.startswith("expected <block end>"):
        told = "not valid YAML: it does not fit what comes before"
        hint = "indent keys alike, and close every quote and bracket"
    return _position(mark), told, hint


def _plain(node: Node, path: KeyPath, positions: dict[KeyPath, Position]) -> object:
    """Return the node's plain value and note where everything in it is."""
    positions.setdefault(path, _position(node.start_mark))
    if isinstance(node, SequenceNode):
        return [_plain(item, (*path, i), positions) for i, item in enumerate(node.value)]
    if isinstance(node, ScalarNode):
        return scalar(node)
    assert isinstance(node, MappingNode)  # noqa: S101  (there is no other kind)
    return _mapping(node, path, positions)


def _empty(node: Node, path: KeyPath) -> Iterator[KeyPath]:
    """Yield the path of every plain scalar below the node that is not written."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield from _empty(value, (*path, _key(key)))
    elif isinstance(node, SequenceNode):
        for i, item in enumerate(node.value):
            yield from _empty(item, (*path, i))
    elif isinstance(node, ScalarNode) and node.value == "" and node.style is None:
        yield path


def _mapping(
    node: MappingNode, path: KeyPath, positions: dict[KeyPath, Position]
) -> dict[str, object]:
    mapping: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = _key(key_node)
        position = _position(key_node.start_mark)
        if positions.setdefault((*path, key), position) is not position:
            raise RefusalError(
                key_node.start_mark,
                f"key {show(key)} occurs twice, first in line {positions[(*path, key)].line}",
                "delete one of them",
            )
        mapping[key] = _plain(value_node, (*path, key), positions)
    return mapping


def _key(node: Node) -> str:
    if not isinstance(node, ScalarNode) or node.tag != TEXT:
        hint = "text that begins with { or [ needs quotes"
        if isinstance(node, ScalarNode):
            hint = f"put it in quotes, such as {show(node.value)}: …"
        raise RefusalError(node.start_mark, "a key that is not text", hint)
    if node.value == "<<" and node.style is None:
        raise RefusalError(node.start_mark, "merge keys are not taken", "write the keys out")
    return str(scalar(node))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        raise RunnerError(f"{path}: {reason}", hint="name a YAML file that you can read") from err
    if len(content) > MAX_BYTES:
        raise RunnerError(
            f"{path}: larger than {MAX_BYTES // 1024} KiB", hint="name a YAML file written by hand"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        position = _position_of(content[: err.start].decode("utf-8", "replace"))
        raise _error(path, position, "not UTF-8 text", "save the file as UTF-8") from err


def _error(path: Path, position: Position, message: str, hint: str) -> RunnerError:
    return RunnerError(f"{path}:{position.line}:{position.column}: {message}", hint=hint)


def _position(mark: Mark | None) -> Position:
    return Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)


def _position_of(before: str) -> Position:
    """Return the position that follows the text `before`."""
    return Position(before.count("\n") + 1, len(before) - before.rfind("\n"))


def dotted(path: KeyPath) -> str:
    """Return the path as `split.test` or `scoring[0]`; keys that are no words are quoted."""
    parts = [
        f"[{key}]" if isinstance(key, int) else "." + (key if _is_word(key) else show(key))
        for key in path
    ]
    return "".join(parts).removeprefix(".")


def _is_word(key: str) -> bool:
    return re.fullmatch(r"[\w-]{1,60}", key) is not None
