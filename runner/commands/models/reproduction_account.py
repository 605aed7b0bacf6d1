"""A recorded training held against the same one done now: the table's lines and the sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.commands.models.table_comparison import compare_tables
from runner.errors import RunnerError
from runner.modelling.environment import environment
from runner.modelling.training_data import table_digest
from runner.recipes.arguments import build_estimator

if TYPE_CHECKING:
    import pyarrow as pa

    from runner.project.manifest import Manifest
    from runner.records.recorded_run import RecordedRun

_NOT_RECORDED = "not recorded"
_UNREADABLE = "dbt cannot read it"
_DIRTY = "-dirty"
_SHA256 = re.compile("[0-9a-f]{64}")
_SHORT = 12


@dataclass(frozen=True)
class Line:
    """One thing that a training depends on or results in, as recorded and as of now."""

    what: str
    then: Any
    now: Any

    @property
    def same(self) -> bool:
        """Whether both are the same, numbers to the last digit."""
        return bool(self.then == self.now)

    @property
    def shown(self) -> tuple[str, str]:
        """Both as text; of a digest its beginning."""
        then, now = (
            text[:_SHORT] if _SHA256.fullmatch(text) else text
            for text in (str(self.then), str(self.now))
        )
        return then, now


def code_lines(recorded: RecordedRun, commit: str, manifest: Manifest | None) -> list[Line]:
    """Return the lines of what rows and scores depend on: git, dbt, libraries, threads.

    Of dbt's models and macros only those that differ have a line.
    """
    sql = manifest.sha256 if manifest else _UNREADABLE
    then, now = recorded.environment or {}, environment()
    return [
        Line("git commit", recorded.tags["git_commit"], commit),
        Line("dbt project", recorded.tags["dbt_manifest_sha256"], sql),
        *(_sql_lines(recorded.sql_digests, manifest) if manifest else ()),
        *(Line(n, then.get(n, _NOT_RECORDED), now.get(n, "–")) for n in {**then, **now}),
    ]


def _sql_lines(then: Mapping[str, str] | None, manifest: Manifest) -> Iterator[Line]:
    if then is None:
        return
    now, foreign = manifest.digests, set()
    for key in sorted({*then, *now}):
        if then.get(key) != now.get(key):
            kind, package, name = key.split(".", 2)
            if package == manifest.project_name:
                yield Line(f"dbt {kind} {name}", then.get(key, "none"), now.get(key, "none"))
            else:
                foreign.add(package)
    # Another version of dbt has hundreds of other macros.
    for package in sorted(foreign):
        yield Line(f"dbt package {package}", "as recorded", "another version")


def code_account(lines: Sequence[Line]) -> Iterator[str]:
    """Yield what differs in the SQL, and whether the recorded commit is the whole code."""
    changed = [line.what for line in lines if line.what.startswith("dbt ") and not line.same]
    named = [what for what in changed if what != "dbt project"]
    if named:
        yield f"since the run these changed (SQL, config or columns): {', '.join(named)}"
    elif changed:
        yield "the dbt project changed since the run; what in it, is not recorded"
    if str(lines[0].then).endswith(_DIRTY):
        yield "the run trained with changes that were not committed"


def data_lines(recorded: RecordedRun, table: pa.Table | None) -> list[Line]:
    """Return the lines of the rows' digests; `table` is None where they cannot be joined."""
    digest = recorded.tags["dataset_sha256"]
    return [
        Line("recorded rows", digest, table_digest(recorded.rows)),
        Line("joined rows", digest, "cannot be joined" if table is None else table_digest(table)),
    ]


def data_account(recorded: RecordedRun, table: pa.Table | None, reason: str) -> Iterator[str]:
    """Yield how the rows joined now differ from the recorded ones."""
    digest = recorded.tags["dataset_sha256"]
    if table_digest(recorded.rows) != digest:
        yield "the run's dataset/training_rows.parquet is not what it trained on: it was changed"
    if table is None:
        yield f"the rows cannot be joined again: {reason}"
    elif table_digest(table) == digest:
        yield f"the {table.num_rows:,} rows joined now are those the run trained on"
    else:
        try:
            comparison = compare_tables(recorded.rows, table, recorded.join_keys)
        except RunnerError as err:
            yield err.message
        else:
            yield from comparison.account


def score_lines(recorded: RecordedRun, scores: Mapping[str, float]) -> list[Line]:
    """Return the lines of the scores on the recorded rows."""
    return [Line(name, score, scores[name]) for name, score in recorded.scores.items()]


def score_account(
    recorded: RecordedRun, code: Sequence[Line], scores: Sequence[Line]
) -> Iterator[str]:
    """Yield whether the scores are the recorded ones and, if not, what may be the reason."""
    differ = [line for line in scores if not line.same]
    if not differ:
        yield "fitted again on the recorded rows, every score is the same to the last digit"
        return
    yield (
        f"fitted again on the recorded rows, {len(differ)} of {len(scores)} scores differ, "
        f"by {max(abs(line.now - line.then) for line in differ):.1e} at most"
    )
    if build_estimator(recorded.recipe).get_params().get("random_state", 0) is None:
        yield (
            "estimator.init_args has no random_state: each fit draws other random numbers, so no "
            "two are the same"
        )
    others = [
        f"{line.what} {line.then} → {line.now}"
        for line in code
        if line.what in environment() and not line.same
    ]
    if others:
        yield f"the environment differs: {', '.join(others)}"
