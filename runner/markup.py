"""HTML and SVG, escaped as they are made: text becomes markup only through `tag`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

_VOID = frozenset({"img", "meta", "circle", "line", "path", "rect"})
# Whatever the escaping misses, a browser neither runs it nor fetches anything for it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """Text that is HTML already; any other `str` is text to escape."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | float) -> Markup:
    """Return an element: `tag("p", "a < b", class_="note")` is `<p class="note">a &lt; b</p>`.

    An underscore in an attribute's name is a hyphen; one at its end, as in `class_`, is dropped.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
    )
    if name in _VOID and not content:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{together(content)}</{name}>")


def together(parts: Iterable[str]) -> Markup:
    """Return the parts one after the other, each escaped unless it is markup."""
    return Markup(
        "".join(part if isinstance(part, Markup) else escape(part, quote=False) for part in parts)
    )


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()
) -> Markup:
    """Return a table with a header row; the columns at the positions `numbers` align right."""
    right = frozenset(numbers)

    def cells(name: str, row: Sequence[str]) -> Markup:
        return tag(
            "tr",
            *(
                tag(name, cell, class_="number") if i in right else tag(name, cell)
                for i, cell in enumerate(row)
            ),
        )

    body = tag("tbody", *(cells("td", row) for row in rows))
    return tag("div", tag("table", tag("thead", cells("th", head)), body), class_="wide")


def section(title: str, *content: str) -> Markup:
    """Return a part of a page below its heading."""
    return tag("section", tag("h2", title), *content)


def picture(content: bytes, title: str) -> Markup:
    """Return a PNG picture as a part of the page itself."""
    return tag("img", src=f"data:image/png;base64,{b64encode(content).decode()}", alt=title)


def page(title: str, *content: str) -> Markup:
    """Return a whole document that needs no other file and no network."""
    style = (files("runner") / "report.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Markup(style)),
    )
    body = tag("body", tag("main", tag("h1", title), *content))
    return Markup(f"<!doctype html>\n{tag('html', head, body, lang='en')}\n")
