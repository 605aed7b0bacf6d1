"""Every error that the page on troubleshooting quotes is one that the code raises."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
QUOTED = re.findall(r"`error: ([^`]+)`", PAGE)


def template(node):
    """Return a string of the code, with `…` in place of its values; "" for all else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or "…" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


TEMPLATES = {
    template(node)
    for package in ("contract", "runner", "serving")
    for path in (ROOT / package).rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text()))
}


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_error_is_in_the_code(message):
    assert any(message in text for text in TEMPLATES)


def test_there_are_many_and_one_that_is_not_in_the_code_would_be_found():
    assert len(QUOTED) > 20
    assert not any("the moon is full" in text for text in TEMPLATES)
