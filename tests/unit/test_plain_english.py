"""Docs, help, errors, hints and docstrings avoid the phrases that readers have stumbled over."""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("benchmarks", "contract", "deploy", "examples", "feature_repo", "runner", "serving")
PAGES = ("*.md", "docs/**/*.md", "dbt_project/**/*.yml", "recipes/*.yaml", "runner/skeleton/**/*")
TEXTS = {".md", ".yml", ".yaml", ".sql"}

# phrase → what to write
RIDDLES = {
    r"\btold\b|\btells?\b": "reports, says, shows; or names",
    r"\bstands? for\b": "means, replaces",
    r"\banew\b": "again",
    r"\b(has|have) no more\b": "no longer has",
    r"\botherwise than\b": "unlike, differently from",
    r"\bdrawn with return\b": "drawn with replacement",
    r"\btheirs is\b": "their …",
    r"\bcut loose\b": "without a time zone",
    r"\bis well if\b": "passes when",
    r"\bkeeps no other\b": "does not stop the others",
}


def riddles(text):
    """Return each riddle in `text` with the words to write in its place."""
    return [
        f"{found.group()!r}: write {better}"
        for pattern, better in RIDDLES.items()
        for found in re.finditer(pattern, " ".join(text.split()), re.IGNORECASE)
    ]


def strings(source):
    """Return line and text of every string of a Python module: messages, help and docstrings."""
    return [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_messages_help_and_docstrings_have_no_riddles():
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {riddle}"
        for package in PACKAGES
        for path in sorted((REPOSITORY / package).rglob("*.py"))
        for line, text in strings(path.read_text(encoding="utf-8"))
        for riddle in riddles(text)
    ]
    assert found == []


def test_pages_have_no_riddles():
    pages = {path for pattern in PAGES for path in REPOSITORY.glob(pattern)}
    found = [
        f"{path.relative_to(REPOSITORY)}: {riddle}"
        for path in sorted(pages)
        if path.suffix in TEXTS
        for riddle in riddles(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_riddle_is_found_across_a_line_break_and_within_a_message():
    assert len(riddles("nothing tells the\nrows apart, which dbt HAS\n  no more")) == 2
    assert strings('raise Error(f"{name} is told")')[0][1] == " is told"
    assert riddles("the standard deviation of a foretold teller") == []
