"""Small charts as SVG, in the colours of the page that they are on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from runner.markup import Markup, tag

_WIDTH, _HEIGHT = 180.0, 40.0


class Axis(NamedTuple):
    """The range of numbers that a chart shows."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Return where `value` is, in the chart's units."""
        return round((value - self.low) / (self.high - self.low) * _WIDTH, 1)


def axis(numbers: Sequence[float]) -> Axis:
    """Return an axis on which all `numbers` have some room at both ends."""
    low, high = min(numbers), max(numbers)
    room = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    return Axis(low - room, high + room)


def interval(
    on: Axis, value: float, ends: tuple[float, float] | None = None, mark: float | None = None
) -> Markup:
    """Return a picture of a point, the interval around it, and a line at `mark`."""
    y = 9.0
    parts = [tag("line", x1=0, x2=_WIDTH, y1=y, y2=y, class_="axis")]
    if ends:
        parts.append(tag("line", x1=on.x(ends[0]), x2=on.x(ends[1]), y1=y, y2=y, class_="whisker"))
    if mark is not None:
        parts.append(tag("line", x1=on.x(mark), x2=on.x(mark), y1=1, y2=17, class_="mark"))
    dot = tag("circle", cx=on.x(value), cy=y, r=4, class_="dot")
    return _svg(2 * y, *parts, dot)


def histogram(first: Sequence[float], second: Sequence[float], title: str) -> Markup:
    """Return two distributions over the same bins: the first as bars, the second as a line.

    Parameters
    ----------
    first, second
        The share of each bin, from 0 to 1.
    """
    top = max(*first, *second, 1e-9)
    wide = _WIDTH / len(first)
    heights = [
        [round(share / top * (_HEIGHT - 2), 1) for share in each] for each in (first, second)
    ]
    bars = "".join(
        f"M{i * wide:.1f} {_HEIGHT:g}v{-height:g}h{wide * 0.86:.1f}v{height:g}z"
        for i, height in enumerate(heights[0])
        if height
    )
    line = "".join(
        f"{'L' if i else 'M'}{i * wide:.1f} {_HEIGHT - height:.1f}h{wide:.1f}"
        for i, height in enumerate(heights[1])
    )
    base = tag("line", x1=0, x2=_WIDTH, y1=_HEIGHT, y2=_HEIGHT, class_="axis")
    shapes = tag("path", d=bars, class_="fill"), tag("path", d=line, class_="step")
    return _svg(_HEIGHT, tag("title", title), base, *shapes)


class Period(NamedTuple):
    """A stretch of a timeline, in seconds since 1970; `kind` is a class of the style sheet."""

    begin: float
    end: float
    kind: str
    title: str


def timeline(periods: Sequence[Period]) -> Markup:
    """Return the periods on one line of time."""
    on = Axis(min(each.begin for each in periods), max(each.end for each in periods))
    parts = [
        tag(
            "rect",
            tag("title", each.title),
            x=on.x(each.begin),
            y=2,
            width=max(on.x(each.end) - on.x(each.begin), 0.6),
            height=8,
            class_=f"part {each.kind}",
        )
        for each in periods
    ]
    return _svg(12, *parts, width="100%", preserveAspectRatio="none")


def _svg(height: float, *content: str, **attributes: str) -> Markup:
    size = {"width": f"{_WIDTH:g}", "height": f"{height:g}"} | attributes
    return tag("svg", *content, viewBox=f"0 0 {_WIDTH:g} {height:g}", role="img", **size)
