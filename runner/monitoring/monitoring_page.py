"""What `runner monitor` found as one HTML page, with its pictures in it: nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from runner.monitoring.findings import Monitoring

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; }}
svg {{ width: 100%; height: auto; }}
</style>
<h1>{title}</h1>
<p>{window}</p>
{parts}
</html>
"""


def page(found: Monitoring, pictures: Iterable[tuple[str, str, str]]) -> str:
    """Return the page.

    Parameters
    ----------
    pictures
        (File name, title, SVG) of each.
    """
    window, quality = found.window, found.quality
    whole = [each for each in found.figures if not each.day]
    drift = [
        [f.column, f"{f.drift:.3f}", _number(f.p_value, ".2g"), _number(f.missing, ".1%")]
        for f in sorted(whole, key=lambda each: -each.drift)
    ]
    scores = [
        [
            s.version,
            s.scorer,
            _number(s.interval and s.interval.value, ".4f"),
            f"{s.interval.low:.4f} to {s.interval.high:.4f}" if s.interval else s.reason,
            _number(found.test_scores.get(s.scorer), ".4f"),
            f"{s.rows:,}",
        ]
        for s in quality.scores
        if not s.day
    ]
    skew = [
        [
            s.feature,
            f"{s.compared:,}",
            f"{s.share:.1%}",
            ", ".join(f"{n:,} {cause}" for cause, n in sorted(s.causes.items())),
        ]
        for s in found.skew
    ]
    labels = quality.reason or (
        f"{quality.labelled:,} rows have a label, {quality.not_due:,} are not due yet, "
        f"{quality.without:,} are due and have none."
    )
    parts = [
        _table("Drift", ["column", "drift", "p", "missing"], drift),
        f"<h2>Live quality</h2><p>{escape(labels)}</p>",
        _table("", ["version", "scorer", "live", "95 % interval", "test rows", "rows"], scores),
        _table("Skew", ["feature", "compared", "skew", "values that differ"], skew),
        *(f"<h2>{escape(title)}</h2>{_inline(svg)}" for _, title, svg in pictures),
    ]
    return _PAGE.format(
        title=escape(f"{window.model} version {window.version}"),
        window=f"{window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M} UTC",
        parts="\n".join(parts),
    )


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    heading = f"<h2>{escape(title)}</h2>" if title else ""
    lines = [_line("th", head), *(_line("td", row) for row in rows)]
    return f"{heading}<table>{''.join(lines)}</table>"


def _line(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _inline(svg: str) -> str:
    return svg[svg.index("<svg") :]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
