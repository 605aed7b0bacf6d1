"""The champion of a model: its version, its run, its training rows, and since when it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runner.errors import RunnerError
from runner.project.manifest import EVENT_TIMESTAMP
from runner.records.artifact_names import ROWS, SLICES
from runner.records.run_facts import (
    CHAMPION,
    RunFacts,
    RunReader,
    VersionFacts,
    require_run,
    with_alias,
)
from runner.records.run_reader import read_json, require_registered

_CHANGES = ("champion_until", "rolled_back_at")
_COUNTED_OTHERS = re.compile(r"^\(\d+ others\)$")


@dataclass(frozen=True)
class ServedChampion:
    """A champion, as MLflow has it.

    Attributes
    ----------
    since
        When it became the champion; of a model's first champion, when its training began.
    """

    version: VersionFacts
    run: RunFacts
    since: datetime

    def parts(self, rows: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Return the training rows that it was fitted on, and its test rows."""
        until, start = (
            pa.scalar(datetime.fromisoformat(self.run.params[name]), rows[EVENT_TIMESTAMP].type)
            for name in ("train_until", "test_from")
        )
        times = rows[EVENT_TIMESTAMP]
        return rows.filter(pc.less_equal(times, until)), rows.filter(pc.greater(times, start))


def find_champion(reader: RunReader, name: str) -> ServedChampion:
    """Return the model's champion.

    Raises
    ------
    RunnerError
        If the model is not registered or has no champion, or MLflow no longer has its run.
    """
    require_registered(reader, name)
    versions = reader.versions(name)
    champion = with_alias(versions, CHAMPION)
    if champion is None:
        raise RunnerError(
            f"{name} has no champion", hint=f"train one, or run `runner promote {name} VERSION`"
        )
    run = require_run(reader, champion)
    return ServedChampion(champion, run, _since(champion, versions, run))


def training_rows(reader: RunReader, champion: ServedChampion) -> pa.Table:
    """Return every row of the champion's training, with its features as they were joined then."""
    return pq.read_table(pa.BufferReader(reader.artifact(champion.run, ROWS)))


def slice_scores(
    reader: RunReader, champion: ServedChampion
) -> dict[tuple[str, str], dict[str, float]]:
    """Return (slice, value) → the score by scorer, of the champion's test rows.

    What a training calls `(12 others)` is `(others)` here: days differ in how many there are.
    """
    try:
        content = read_json(reader, champion.run, SLICES)
    except RunnerError:  # its recipe had no slices
        return {}
    return {
        (each["slice"], _COUNTED_OTHERS.sub("(others)", each["value"])): {
            scorer: found["score"] for scorer, found in each["scores"].items()
        }
        for each in content["slices"]
    }


def _since(champion: VersionFacts, versions: Sequence[VersionFacts], run: RunFacts) -> datetime:
    """Return when the alias last moved: the champion before has that time as a tag."""
    changes = [
        datetime.fromisoformat(other.tags[name])
        for other in versions
        if other.version != champion.version
        for name in _CHANGES
        if name in other.tags
    ]
    started = run.started or datetime.fromtimestamp(0, UTC)
    return max([*changes, started])
