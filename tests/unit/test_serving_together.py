"""Requests that are answered together get the answers that each of their rows gets alone."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hiredis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contract.model_registry import FolderSource
from contract.serving_errors import ServingError
from contract.serving_settings import Limits
from serving.admission import Asked
from serving.batches import Batches
from serving.champion_watch import ChampionWatch
from serving.features.redis_client import unavailable
from serving.loaded import Loaded
from serving.metrics import Metrics
from tests.serving_bundles import (
    REQUEST,
    redis_field,
    timestamp_proto,
    value_proto,
    write_linear_bundle,
)

# Their sums are exact: a model rounds one row otherwise than sixteen at a time.
GOOD: dict[str, list[Any]] = {
    "int64": [1, 2, -(2**20)],
    "int32": [1, 2, 2**20],
    "float64": [1.5, -2, 0.0],
    "float32": [0.5, 3],
    "bool": [True, False],
    "string": ["a", "", "ü"],
    "timestamp": ["2026-01-01T00:00:00Z", "2026-01-01T02:00:00.5+02:00"],
}
WRONG = [None, True, "1", 1.0, 2**31, 2**63, 10**30, 1e39, "2026-01-01T00:00:00", [], {}]


class _Stored:
    """An online store whose every value follows from its place, a part of them faulty."""

    def __init__(self, dtypes: Mapping[bytes, str], seed: int, faults: float) -> None:
        self._dtypes = dtypes
        self._seed = seed
        self._faults = faults
        self._now = time.time()

    async def read(self, commands: Sequence[bytes]) -> list[object]:
        reader = hiredis.Reader()
        return [self._reply(reader, command) for command in commands]

    def _reply(self, reader: Any, command: bytes) -> object:
        reader.feed(command)
        _, key, *fields = reader.gets()
        if self._drawn(key, b"node") < self._faults / 4:
            return unavailable()
        if self._drawn(key, b"row") < self._faults:
            return [None] * len(fields)
        return [self._value(key, field) for field in fields]

    def _value(self, key: bytes, field: bytes) -> bytes | None:
        is_faulty, place = self._drawn(key, field, b"fault") < self._faults, self._drawn(key, field)
        dtype = self._dtypes.get(field)
        if dtype is None:
            faulty = [None, timestamp_proto(self._now - 1e7), b"\xff"]
            return faulty[int(place * 3)] if is_faulty else timestamp_proto(self._now - 30 * place)
        if is_faulty:
            infinite = [value_proto("float64", one) for one in (math.nan, math.inf, 1e39)]
            faults = [None, b"", *infinite, value_proto("float64", 1.5)[:-1], b"\x40\x01"]
            return faults[int(place * len(faults))]
        values = {"timestamp": [0, 1_700_000_000]}.get(dtype, GOOD[dtype])
        return value_proto(dtype, values[int(place * len(values))])

    def _drawn(self, *parts: bytes) -> float:
        """Return a number from 0 to 1 that follows from the parts."""
        digest = hashlib.sha256(b"%d|" % self._seed + b"|".join(parts)).digest()
        return int.from_bytes(digest[:6]) / 2**48


class _Caller:
    gone = False
    request_id = b"1"

    def __init__(self) -> None:
        self.arrived = time.monotonic()


class _Request(NamedTuple):
    rows: Sequence[Any]
    overrides: Sequence[Any] | None
    strict: bool

    @property
    def body(self) -> bytes:
        content = {"entity_rows": self.rows, "strict": self.strict, "include_features": True}
        if self.overrides is not None:
            content["feature_overrides"] = self.overrides
        return json.dumps(content).encode()

    @property
    def rows_alone(self) -> list[_Request]:
        if self.overrides is None:
            return [_Request([row], None, False) for row in self.rows]
        pairs = zip(self.rows, self.overrides, strict=True)
        return [_Request([row], [own], False) for row, own in pairs]


class _Answered(NamedTuple):
    """The answers to requests, or why they failed; what was handed to the log; what was counted."""

    answers: list[Any]
    logged: list[Any]
    counted: Counter[Any]


async def _answered(
    champion: ChampionWatch, online: Any, requests: Sequence[_Request]
) -> _Answered:
    """Ask all requests in one turn of the event loop, so that they are one batch."""
    metrics = Metrics()
    metrics.serve(champion.current)
    logged: list[Any] = []

    def record(_: Loaded, __: float, answered: Sequence[Asked]) -> None:
        for asked in answered:
            own = [(list(values), *rest) for _, _, values, *rest in asked.scored]
            statuses = [list(used.statuses) for _, used, *_ in asked.scored]
            logged.extend(map(repr, zip(own, statuses, strict=True)))

    batches = Batches(champion, online, metrics, Limits(seconds=60), record)
    asked = [batches.predict(one.body, _Caller()) for one in requests]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.sleep(0)
    return _Answered(list(map(_plain, answers)), sorted(logged), _counted(metrics))


def _counted(metrics: Metrics) -> Counter[Any]:
    names = ("serving_row_errors", "serving_rows", "serving_feature_", "serving_predict")
    samples = [one for family in metrics.collect() for one in family.samples]
    counted = {
        (one.name, *sorted(one.labels.items())): one.value
        for one in samples
        if one.name.startswith(names) and not one.name.endswith(("_sum", "_created"))
    }
    return +Counter(counted)


def _plain(answer: Any) -> Any:
    """Return an answer without what changes from one moment to the next."""
    if isinstance(answer, ServingError):
        return f"{answer.code}: {answer.message}"
    if isinstance(answer, Exception):
        raise answer
    for one in answer["predictions"]:
        for feature in one.get("features", {}).values():
            feature["age_seconds"] = feature["age_seconds"] is not None
    return answer["predictions"]


def _bundle(
    folder: Path, shape: Sequence[tuple[str, str, str, list[str], float | None]], **changes: Any
) -> ChampionWatch:
    features = [
        {
            "name": f"{view}__{name}",
            "view": view,
            "feature": name,
            "dtype": dtype,
            "join_keys": keys,
            "ttl_seconds": ttl,
            "redis_field": redis_field(view, name).hex(),
            "overridable": name.startswith("own"),
        }
        for view, name, dtype, keys, ttl in shape
    ]
    write_linear_bundle(
        folder, **{"format_version": 3, "task": "regression", "features": features} | changes
    )
    champion = ChampionWatch(FolderSource(folder), Metrics(), 0)
    champion.refresh()
    return champion


NUMBERS = [
    ("pair", "a", "float64", ["k", "u"], 3_600.0),
    ("user", "own", "float64", ["u"], None),
    ("pair", "b", "float64", ["k", "u"], 3_600.0),
    ("all", "c", "float64", [], None),
]
MIXED = [
    ("user", "own", "int64", ["u"], 3_600.0),
    ("user", "text", "string", ["u"], 3_600.0),
    ("time", "at", "timestamp", ["t", "v"], None),
    ("time", "own_flag", "bool", ["t", "v"], None),
    ("other", "small", "int32", ["v"], None),
    ("other", "real", "float32", ["v"], None),
    ("user", "double", "float64", ["u"], 3_600.0),
]


def _keys(**dtypes: str) -> list[dict[str, str]]:
    return [{"name": name, "dtype": dtype} for name, dtype in dtypes.items()]


TWICE = {
    "name": "twice",
    "dtype": "float64",
    "expression": ["add", ["column", "user__own"], ["column", "user__own"]],
}
SHAPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "numbers": (NUMBERS, {"entity_keys": _keys(u="int64", k="string")}),
    "a view": (
        NUMBERS[1:2],
        {"entity_keys": _keys(u="int32")},
    ),
    "numbers and request inputs": (
        NUMBERS,
        {"entity_keys": _keys(k="string", u="int64"), "request": REQUEST[:1]},
    ),
    "numbers and what is computed of them": (
        NUMBERS,
        {"entity_keys": _keys(k="string", u="int64"), "computed": [TWICE]},
    ),
    "changed definitions": (NUMBERS, {"entity_keys": _keys(u="int64", k="string")}),
    "all types": (
        MIXED,
        {
            "entity_keys": _keys(v="int32", u="int64", t="timestamp"),
            "request": REQUEST,
            "on_missing_entity": {"user": "error", "time": "null"},
        },
    ),
    "request inputs only": ([], {"entity_keys": [], "request": REQUEST}),
    "no entities": (NUMBERS[3:], {"entity_keys": []}),
}


@pytest.fixture(name="champions", scope="module")
def _champions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bundles")
    champions = {
        name: _bundle(folder / name, shape, **changes) for name, (shape, changes) in SHAPES.items()
    }
    champions["changed definitions"].current.online.changed = frozenset([0, 1])
    return champions


def _rows(loaded: Loaded, faulty: bool) -> st.SearchStrategy[Any]:
    sent = {one.name: one.dtype for one in loaded.bundle.sent}
    good = st.fixed_dictionaries(
        {name: st.sampled_from(GOOD[dtype]) for name, dtype in sent.items()}
    )
    names = st.sampled_from([*sent, "unknown"])
    wrong = st.one_of(
        st.tuples(good, names, st.sampled_from(WRONG)).map(
            lambda drawn: drawn[0] | {drawn[1]: drawn[2]}
        ),
        st.tuples(good, names).map(
            lambda drawn: {k: v for k, v in drawn[0].items() if k != drawn[1]}
        ),
        st.sampled_from([None, [], {}, 1]),
    )
    return st.one_of(*[good] * 9, wrong) if faulty else good


def _overrides(loaded: Loaded) -> st.SearchStrategy[Any]:
    known = {one.name: one.dtype for one in loaded.bundle.features if one.overridable}
    value = st.sampled_from([*WRONG, 1, 2.5])
    good = {name: st.sampled_from(GOOD[dtype]) for name, dtype in known.items()}
    return st.one_of(
        st.none(),
        st.just({}),
        st.fixed_dictionaries({}, optional=good),
        st.dictionaries(st.sampled_from([*known, "unknown"]), value, max_size=2),
    )


def _requests(loaded: Loaded) -> st.SearchStrategy[list[_Request]]:
    overrides = _overrides(loaded)

    def request(count: int, faulty: bool) -> st.SearchStrategy[_Request]:
        own = st.none()
        if loaded.overrides:
            own = st.none() | st.lists(overrides, min_size=count, max_size=count)
        rows = st.lists(_rows(loaded, faulty), min_size=count, max_size=count)
        return st.builds(_Request, rows, own, st.booleans())

    sizes = st.tuples(st.sampled_from([1, 2, 9, 20]), st.booleans())
    return st.lists(sizes.flatmap(lambda drawn: request(*drawn)), min_size=1, max_size=4)


@pytest.mark.parametrize("shape", SHAPES)
@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],  # large examples shrink for minutes
)
@given(st.data())
def test_requests_and_rows_answered_together_are_those_answered_alone(
    champions: dict[str, ChampionWatch], shape: str, data: st.DataObject
) -> None:
    champion = champions[shape]
    loaded = champion.current
    requests = data.draw(_requests(loaded))
    dtypes = {one.redis_field: one.dtype for one in loaded.bundle.features}
    faults = data.draw(st.sampled_from([0, 0.02, 0.2]))
    online = _Stored(dtypes, data.draw(st.integers(0, 99)), faults)

    async def alone(asked: Sequence[_Request]) -> list[_Answered]:
        return [await _answered(champion, online, [one]) for one in asked]

    together = asyncio.run(_answered(champion, online, requests))
    by_request = asyncio.run(alone(requests))
    assert together == _sum(by_request)
    for request, own in zip(requests, by_request, strict=True):
        _require_same_rows(request, own, asyncio.run(alone(request.rows_alone)))


def _sum(parts: Sequence[_Answered]) -> _Answered:
    """Return what several batches were answered, as one."""
    return _Answered(
        list(itertools.chain.from_iterable(one.answers for one in parts)),
        sorted(itertools.chain.from_iterable(one.logged for one in parts)),
        +sum((one.counted for one in parts), Counter()),
    )


def _require_same_rows(request: _Request, own: _Answered, by_row: Sequence[_Answered]) -> None:
    """Compare the answer to a request with those to its rows."""
    rows, failed = [], set()
    for position, answered in enumerate(by_row):
        (answer,) = answered.answers
        if isinstance(answer, str):
            failed.add(answer)
        elif request.strict and "error" in answer[0]:
            error = answer[0]["error"]
            failed.add(f"{error['code']}: entity_rows[{position}]: {error['message']}")
        else:
            rows += answer
    if failed:
        assert own.answers[0] in failed
    else:
        assert own == _sum(by_row)._replace(answers=[rows])


def test_a_strict_request_names_its_first_row_that_cannot_be_understood(
    champions: dict[str, ChampionWatch],
) -> None:
    champion = champions["numbers"]
    row = {"u": 1, "k": "a"}
    wrong_first = _Request([row, {"u": 1}], [{"user__own": "1"}, {}], strict=True)
    wrong_second = _Request([row, {"u": 1}], [{"user__own": 1}, {}], strict=True)
    online = _Stored({}, 0, 0)
    answered = asyncio.run(_answered(champion, online, [wrong_first, wrong_second]))
    assert answered.answers == [
        "invalid_feature_override: entity_rows[0]: user__own must be a number, or null",
        "invalid_entity_row: entity_rows[1]: k is missing",
    ]
