"""The serving log: what a server writes of each answered row, and what `runner collect` reads.

A Redis Stream per Feast project. An entry holds rows that one server answered with one version of
a model, as MessagePack: numbers keep every digit, and a row of 20 features takes about 0.25 KB.
What all rows of a version share, such as the names of its features, is written once, as a
`LogSchema` in the hash `schemas_key`, under the digest of the version's bundle.

A row's name is its server's id with its number there. It is given before Redis sees the row, so a
row that comes twice is known again, and a gap in the numbers is a row that was lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import ormsgpack
from pydantic import TypeAdapter

from contract.bundle import Bundle

FIELD = b"rows"
"""The one field of a stream's entry."""
FORMAT = 1


def stream_key(project: str) -> bytes:
    """Return the stream of a Feast project. In a cluster all keys of a log have one hash slot."""
    return b"runner:log:{%b}:served" % project.encode()


def schemas_key(project: str) -> bytes:
    """Return the hash of the log's schemas, by digest of the bundle."""
    return stream_key(project) + b":schemas"


@dataclass(frozen=True)
class LogSchema:
    """What the rows of one bundle share.

    Attributes
    ----------
    keys, features, request, views
        Names, in the order that a row has their values in; `request` are inputs of the request.
    classes
        The keys of a row's probabilities; empty for a regression.
    definitions
        By view, a digest of what the features of it are computed by.
    """

    model: str
    run_id: str
    label: str
    keys: tuple[str, ...]
    features: tuple[str, ...]
    request: tuple[str, ...]
    views: tuple[str, ...]
    classes: tuple[str, ...] = ()
    threshold: float | None = None
    definitions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, bundle: Bundle, model: str, views: Sequence[str]) -> LogSchema:
        """Return the schema of a bundle that is served as `model`."""
        label = bundle.label
        return cls(
            model=model,
            run_id=bundle.run_id,
            label=label.name,
            keys=tuple(key.name for key in bundle.entity_keys),
            features=tuple(feature.name for feature in bundle.features),
            request=tuple(given.name for given in bundle.request),
            views=tuple(views),
            classes=tuple(map(str, label.classes or ())),
            threshold=label.decision_threshold,
            definitions=_definitions(bundle),
        )

    @classmethod
    def parse(cls, content: bytes) -> LogSchema:
        """Return what `dump` wrote."""
        return _SCHEMAS.validate_json(content)

    def dump(self) -> bytes:
        """Return it as JSON."""
        return orjson.dumps(asdict(self))


_SCHEMAS = TypeAdapter(LogSchema)


def _definitions(bundle: Bundle) -> dict[str, str]:
    """Return a digest by view of what its features are computed by: each row repeats it."""
    by_view: dict[str, list[str]] = {}
    for feature in bundle.features:
        if feature.definition is not None:
            known = by_view.setdefault(feature.projection, [])
            known.append(f"{feature.feature} {feature.definition}")
    return {
        view: hashlib.sha256("\n".join(sorted(known)).encode()).hexdigest()[:16]
        for view, known in by_view.items()
    }


LoggedRow = tuple[int, Sequence[Any], Sequence[Any], str | None, Sequence[float | None], Any, Any]
"""Position in the request, entity keys, features and request inputs, statuses, event times in Unix
seconds by view, prediction, probabilities. Statuses are a letter per feature; None: all are
present."""
_ROW_PARTS = 7
LoggedAnswer = tuple[float, str, Sequence[LoggedRow]]
"""Unix time at which the features were read, request id, rows."""


def encode_answers(answers: Sequence[LoggedAnswer]) -> bytes:
    """Return answers for `LogEntry.dump`. Raises TypeError for what MessagePack cannot hold."""
    return ormsgpack.packb(answers)


STATUS_LETTERS = {
    "present": "p",
    "null": "n",
    "missing": "m",
    "expired": "e",
    "overridden": "o",
    "changed": "c",
}
STATUS_NAMES = {letter: name for name, letter in STATUS_LETTERS.items()}


@dataclass(frozen=True)
class LogEntry:
    """One entry of the stream.

    Attributes
    ----------
    server, first
        Which server wrote it, and the number that its first row has there.
    bundle
        Digest of the bundle that answered.
    share
        Which share of requests the server logs.
    is_shadow
        Whether the rows are a shadow's: no client was given these answers.
    """

    server: str
    first: int
    bundle: str
    version: str
    share: float
    answers: Sequence[LoggedAnswer] = ()
    is_shadow: bool = False

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(len(rows) for _, _, rows in self.answers)

    def dump(self, encoded: Sequence[bytes] = ()) -> bytes:
        """Return the value of an entry's `FIELD`.

        Parameters
        ----------
        encoded
            What `encode_answers` has returned, once or several times; default: for `answers`.
        """
        head = (FORMAT, self.server, self.first, self.bundle, self.version, self.share)
        parts = tuple(encoded) or (encode_answers(self.answers),)
        return ormsgpack.packb((*head, parts, self.is_shadow))

    @classmethod
    def parse(cls, content: bytes) -> LogEntry | None:
        """Return what `dump` wrote; None: something else wrote it, or a later version."""
        try:
            number, server, first, bundle, version, share, parts, is_shadow = ormsgpack.unpackb(
                content
            )
            answers = [one for part in parts for one in ormsgpack.unpackb(part)]
            is_whole = all(len(row) == _ROW_PARTS for _, _, rows in answers for row in rows)
        except (TypeError, ValueError):
            return None
        if number != FORMAT or not is_whole:
            return None
        return cls(server, first, bundle, version, share, answers, is_shadow)
