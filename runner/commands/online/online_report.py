"""How online values and audits are shown: rows of a table, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from runner import console

if TYPE_CHECKING:
    from runner.online.audit import FeatureAudit
    from runner.online.reader import OnlineAnswer
    from runner.online.view_report import ViewReport

_KINDS = ("mismatch", "missing", "extra", "stale")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def show_materialized(reports: Sequence[ViewReport], *, as_json: bool) -> None:
    """Print what was written to Redis of each view."""
    if as_json:
        console.result_json([materialized_json(report) for report in reports])
    elif reports:
        columns = ["view", "mode", "entities", "written", "removed", "rows/s", "as of"]
        console.result_table("", columns, [_materialized(report) for report in reports])
    for report in reports:
        if report.kept_newer:
            console.warn(f"{report.view}: {report.kept_newer:,} values in Redis are newer; kept")
        if report.advice:
            console.warn(f"{report.view}: {report.advice}")


def materialized_json(report: ViewReport) -> dict[str, Any]:
    """Return what was written of a view; the instant as ISO 8601."""
    return {
        **asdict(report),
        "as_of": report.as_of.isoformat(),
        "compared": report.compared and report.compared.isoformat(),
        "newest": report.newest and report.newest.isoformat(),
        "rows_per_second": report.rows_per_second,
    }


def _materialized(report: ViewReport) -> list[str]:
    return [
        report.view,
        _mode(report),
        f"{report.entities:,}",
        f"{report.written:,}",
        f"{report.removed:,}",
        f"{report.rows_per_second:,.0f}",
        f"{report.as_of:%Y-%m-%d %H:%M:%S} UTC",
    ]


def _mode(report: ViewReport) -> str:
    if report.reason:
        return f"{report.mode}: {report.reason}"
    if report.compared is None or report.compared == report.as_of:
        return report.mode
    before = _duration((report.as_of - report.compared).total_seconds())
    return f"{report.mode}, all compared {before} before"


def show_answer(answer: OnlineAnswer, *, as_json: bool) -> None:
    """Print what Redis holds of one entity."""
    if as_json:
        console.result_json(answer_json(answer))
        return
    columns = ["feature", "value", "status"]
    console.result_table(answer_title(answer), columns, answer_rows(answer))


def show_audit(found: Sequence[FeatureAudit], *, as_json: bool) -> None:
    """Print how Redis differs from the point-in-time join, and what to do if it does."""
    if as_json:
        console.result_json(audit_json(found))
    elif found:
        console.result_table("", audit_columns(), audit_rows(found))
        console.result(audit_verdict(found))
    else:
        console.result("the recipe takes no stored feature: there is nothing to compare")
    if any(feature.has_skew for feature in found):
        console.note("hint: `runner materialize` brings Redis up to date; see --json for examples")


def answer_title(answer: OnlineAnswer) -> str:
    """Return the entity, its event time, age and time left in one line."""
    entity = " ".join(f"{name}={value}" for name, value in answer.entity.items())
    if answer.event_time is None or answer.age_seconds is None:
        return f"{answer.view} {entity}: not in Redis"
    parts = [f"event time {answer.event_time:%Y-%m-%d %H:%M:%S} UTC"]
    parts.append(f"age {_duration(answer.age_seconds)}")
    if answer.ttl_left_seconds is None:
        parts.append("no ttl")
    elif answer.ttl_left_seconds < 0:
        parts.append(f"expired {_duration(-answer.ttl_left_seconds)} ago")
    else:
        parts.append(f"ttl left {_duration(answer.ttl_left_seconds)}")
    if answer.key_ttl_seconds is not None:
        parts.append(f"Redis keeps it {_duration(answer.key_ttl_seconds)}")
    return f"{answer.view} {entity}: {', '.join(parts)}"


def answer_rows(answer: OnlineAnswer) -> list[list[str]]:
    """Return feature, value and status of each feature."""
    return [[v.feature, "" if v.value is None else str(v.value), v.status] for v in answer.values]


def answer_json(answer: OnlineAnswer) -> dict[str, Any]:
    """Return the whole answer; times as ISO 8601, durations in seconds."""
    moment = None if answer.event_time is None else answer.event_time.isoformat()
    return {**asdict(answer), "event_time": moment}


def audit_columns() -> list[str]:
    """Return the titles of `audit_rows`."""
    return ["feature", "compared", "in Redis", *_KINDS, "first difference"]


def audit_rows(found: Sequence[FeatureAudit]) -> list[list[str]]:
    """Return the counts of entities per feature, and the first difference of each."""
    return [
        [
            audited.feature.reference,
            f"{audited.compared:,}",
            "" if audited.stored is None else f"{audited.stored:,}",
            *(f"{getattr(audited, kind):,}" for kind in _KINDS),
            _first_difference(audited),
        ]
        for audited in found
    ]


def audit_json(found: Sequence[FeatureAudit]) -> list[dict[str, Any]]:
    """Return the counts and examples per feature."""
    return [
        {
            "feature": audited.feature.reference,
            "entities": audited.compared,
            "stored": audited.stored,
            **{kind: getattr(audited, kind) for kind in _KINDS},
            "examples": [asdict(example) for example in audited.examples],
        }
        for audited in found
    ]


def audit_verdict(found: Sequence[FeatureAudit]) -> str:
    """Return `23 features equal`, or how many of them are."""
    equal = sum(not feature.has_skew for feature in found)
    if equal == len(found):
        return f"{equal} feature{'s' if equal > 1 else ''} equal"
    return f"{equal} of {len(found)} features equal"


def _first_difference(audited: FeatureAudit) -> str:
    if not audited.examples:
        return ""
    first = audited.examples[0]
    entity = " ".join(f"{name}={value}" for name, value in first.entity.items())
    return f"{entity}: online {first.online}, offline {first.offline}"


def _duration(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
