"""What a view's last complete run left in the online store, and what the next run starts from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from runner.project.manifest import FeatureMart

NOT_LOOKED = datetime.min.replace(tzinfo=UTC)
"""The `next_visible` of a run that did not look for it."""


@dataclass(frozen=True)
class LastComparison:
    """A run that compared every entity with the mart.

    Attributes
    ----------
    as_of
        The instant it materialized.
    horizon
        The `horizon` of the mart's snapshot then.
    kept_newer
        How many values it left because they were newer than the mart's.
    """

    as_of: datetime
    horizon: int
    kept_newer: int


@dataclass(frozen=True)
class BuiltPushes:
    """Up to where the mart has what was pushed to the view.

    Attributes
    ----------
    until
        Up to which event time, in Unix seconds.
    newest
        When the last row of the raw table that it had was collected; None: it had none.
    """

    until: float
    newest: datetime | None


@dataclass(frozen=True)
class Watermark:
    """What the last complete run left in the store.

    Attributes
    ----------
    as_of
        The instant it materialized.
    horizon, identity
        The `horizon` and `identity` of the mart's snapshot then: what the next run starts from.
    entities
        How many entities the store holds.
    kept_newer
        How many values it left because they were newer than the mart's.
    definition
        Digest of what the view says a row is.
    next_visible
        When the first row that the mart already had may begin to count; None: there was none.
    compared
        The last comparison, if this run followed new rows alone; None: it compared.
    collected
        Up to which event time, in Unix seconds, pushed rows were in the raw table then; None: the
        view took no pushes.
    built
        What the mart had of them; None: the same.
    newest
        The newest event time of its rows; None: it had no row, or an earlier version wrote this.
    """

    as_of: datetime
    horizon: int
    identity: Mapping[str, str]
    entities: int
    kept_newer: int
    definition: str
    next_visible: datetime | None = NOT_LOOKED
    compared: LastComparison | None = None
    collected: float | None = None
    built: BuiltPushes | None = None
    newest: datetime | None = None

    @property
    def comparison(self) -> LastComparison:
        """The last run that compared every entity."""
        return self.compared or LastComparison(self.as_of, self.horizon, self.kept_newer)

    def to_json(self) -> str:
        """Return what `parse_watermark` reads."""
        return json.dumps(asdict(self), default=datetime.isoformat)


def parse_watermark(content: bytes) -> Watermark:
    """Return what `to_json` of this version or an earlier one wrote."""
    fields: dict[str, Any] = json.loads(content)
    identity, compared = fields["identity"], fields.get("compared")
    built = fields.get("built")
    next_visible = fields.get("next_visible", NOT_LOOKED.isoformat())
    return Watermark(
        as_of=datetime.fromisoformat(fields["as_of"]),
        horizon=fields["horizon"],
        # Version 0.1 knew the table alone: nothing to go on from.
        identity=identity if isinstance(identity, dict) else {},
        entities=fields["entities"],
        kept_newer=fields["kept_newer"],
        definition=fields["definition"],
        next_visible=_instant(next_visible),
        compared=compared
        and LastComparison(
            datetime.fromisoformat(compared["as_of"]), compared["horizon"], compared["kept_newer"]
        ),
        collected=fields.get("collected"),
        newest=_instant(fields.get("newest")),
        built=built and BuiltPushes(built["until"], _instant(built["newest"])),
    )


def _instant(content: str | None) -> datetime | None:
    return datetime.fromisoformat(content) if content else None


def key_dtypes(mart: FeatureMart) -> dict[str, str]:
    """Return the dtype of each join key."""
    return {key: mart.columns[key].dtype for key in mart.join_keys}


def definition_digest(mart: FeatureMart) -> str:
    """Return a digest of what a stored row consists of, and of how it is chosen."""
    meaning = [
        sorted(key_dtypes(mart).items()),
        [[c.name, c.dtype] for c in mart.features],
        [mart.timestamp_field, mart.created_timestamp_column],
    ]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()
