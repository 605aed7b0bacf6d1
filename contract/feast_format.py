"""How Feast names what it keeps in Redis: said once, for whoever reads or writes it.

A hash per entity key: its name is the serialized entity key (version 3) followed by the project;
its fields are 4-byte hashes of `<view>:<feature>` holding a `ValueProto`, and `_ts:<view>` holding
the row's event time as a `Timestamp`. Source: feast/infra/key_encoding_utils.py and
feast/infra/online_stores/{helpers,redis}.py, feast 0.67.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import mmh3

DUMMY_KEY = "__dummy_id"
"""The join key, with value "", of a view without entities (feast.feature_view.DUMMY_ENTITY_ID)."""
STRING_KEY = 2
"""Feast's number of a text among the types of entity keys (feast.types.ValueType)."""
NUMBER_KEYS: Mapping[str, tuple[int, int]] = {"int32": (3, 4), "int64": (4, 8), "timestamp": (8, 8)}
"""By dtype: Feast's number of that type, and its width in bytes. A time is whole Unix seconds,
floored."""


def key_prefix(join_keys: Sequence[str]) -> bytes:
    """Return what the names of all hashes with these join keys, sorted or none, begin with."""
    names = join_keys or (DUMMY_KEY,)
    return struct.pack("<I", len(names)) + b"".join(map(string_key, names))


def string_key(text: str) -> bytes:
    """Return one text within a hash's name."""
    raw = text.encode()
    return struct.pack("<II", STRING_KEY, len(raw)) + raw


def number_head(dtype: str) -> bytes:
    """Return what precedes a number's own little-endian bytes within a hash's name."""
    return struct.pack("<II", *NUMBER_KEYS[dtype])


def time_field(view: str) -> bytes:
    """Return the field of a view's event time."""
    return f"_ts:{view}".encode()


def field_hash(view: str, feature: str) -> bytes:
    """Return the field of a feature's value."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def colliding_features(views: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """Return the pairs of features that share a field, so that one overwrites the other.

    A hash of 32 bits: among 1,000 features of one set of join keys it happens once in 8,600 such
    sets. The field of an event time is longer than four bytes and is never a feature's.

    Parameters
    ----------
    views
        Feature names by view name, of every view with one set of join keys: they share a hash.

    Returns
    -------
    list
        Pairs of `view:feature`, in the order of `views`; empty where every field is one feature's.
    """
    owners: dict[bytes, str] = {}
    pairs = []
    for view, features in views.items():
        for feature in features:
            name = f"{view}:{feature}"
            owner = owners.setdefault(field_hash(view, feature), name)
            if owner != name:
                pairs.append((owner, name))
    return pairs
