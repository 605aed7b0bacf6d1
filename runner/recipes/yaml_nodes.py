"""PyYAML's nodes of one mapping, read strictly and as YAML 1.2.

Plain scalars mean what they mean to editors: `1e-3` is a number, `no` is text and `010` is ten.
Whatever a hand-written file does not need is refused: anchors and aliases (which can expand a few
bytes to gigabytes), tags (which can name Python classes), deep nesting, several documents, control
characters.
"""

from __future__ import annotations

import math
import re
from typing import NoReturn

from yaml import MappingNode, Node, ScalarNode
from yaml.composer import Composer
from yaml.error import Mark
from yaml.events import AliasEvent
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from runner.wording import show

MAX_DEPTH = 16

TEXT, _NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "null", "bool", "int", "float")
)
_PLAIN_SCALARS = {
    _NULL: re.compile(r"~|null|Null|NULL|"),
    _BOOL: re.compile(r"true|True|TRUE|false|False|FALSE"),
    _INT: re.compile(r"[-+]?[0-9]+"),
    _FLOAT: re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
}


class RefusalError(Exception):
    """Valid YAML that is not taken: where (None: the whole file), why, and what to do."""

    def __init__(self, mark: Mark | None, message: str, hint: str) -> None:
        super().__init__(message)
        self.mark, self.message, self.hint = mark, message, hint


class _Loader(Reader, Scanner, Parser, Composer, BaseResolver):
    """PyYAML's nodes, without anchors, tags and depth; scalars resolved as in YAML 1.2."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise RefusalError(
                event.start_mark, "anchors and aliases are not taken", "write the value out"
            )
        if getattr(event, "tag", None) is not None:
            raise RefusalError(event.start_mark, f"tag {event.tag} is not taken", "delete the tag")
        if self._depth == MAX_DEPTH:
            raise RefusalError(
                event.start_mark, f"nested more than {MAX_DEPTH} levels deep", "flatten it"
            )
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def resolve(self, kind: type[Node], value: str | None, implicit: tuple[bool, bool]) -> str:
        if kind is ScalarNode and implicit[0] and value is not None:
            for tag, pattern in _PLAIN_SCALARS.items():
                if pattern.fullmatch(value):
                    return tag
        return TEXT


def compose_mapping(text: str) -> MappingNode:
    """Return the text's one document, which must be a mapping.

    Raises
    ------
    RefusalError
        If it is none, or holds what is refused (see above).
    yaml.YAMLError, OverflowError, ValueError
        If it is not YAML; the last two for escapes and numbers beyond all bounds.
    """
    root = _Loader(text).get_single_node()
    if not isinstance(root, MappingNode):
        mark, empty = (root.start_mark, "") if root else (None, "empty; ")
        raise RefusalError(mark, f"{empty}expected `key: value` lines", "write one key per line")
    return root


def scalar(node: ScalarNode) -> str | int | float | bool | None:
    """Return the node's value; integers fit in 64 bits, and floats are finite."""
    text: str = node.value
    if node.tag == _NULL:
        return None
    if node.tag == _BOOL:
        return text.lower() == "true"
    if node.tag == _INT:
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            _refuse_number(node)
        return int(text)
    if node.tag == _FLOAT:
        number = float(text)
        return number if math.isfinite(number) else _refuse_number(node)
    if Reader.NON_PRINTABLE.search(text):
        raise RefusalError(node.start_mark, "an escaped control character", "delete it")
    return text


def _refuse_number(node: ScalarNode) -> NoReturn:
    raise RefusalError(
        node.start_mark,
        f"{show(node.value)} does not fit in 64 bits",
        "write a smaller number, or put it in quotes if it is text",
    )
