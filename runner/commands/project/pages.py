"""`runner help`: the pages of `docs/`, which an installed package has too."""

from __future__ import annotations

from pathlib import Path

from runner.errors import RunnerError
from runner.wording import did_you_mean

_FOLDER = Path(__file__).parents[2] / "pages"


def topics() -> dict[str, str]:
    """Return topic → the title of its page."""
    pages = sorted(_FOLDER.glob("*.md"))
    return {page.stem: page.read_text(encoding="utf-8").partition("\n")[0][2:] for page in pages}


def page(topic: str) -> str:
    """Return the page about `topic` as Markdown.

    Raises
    ------
    RunnerError
        If there is none.
    """
    known = topics()
    if topic not in known:
        raise RunnerError(
            f"no page about {topic!r}{did_you_mean(topic, known)}",
            hint="`runner help` lists the topics; for a command, run `runner train --help`",
        )
    return (_FOLDER / f"{topic}.md").read_text(encoding="utf-8")
