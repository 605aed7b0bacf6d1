"""What a batch of entity rows asks the online store for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from contract.view_layout import StoredView
from serving.features.entity_keys import EntityKeys
from serving.features.view_group import GroupReplies, ViewGroup


class Lookup:
    """The hashes that the entity rows of a batch are read from, each once.

    Rows may share them: one user with a hundred categories has one row of user features.
    """

    def __init__(self, keys: EntityKeys, groups: Sequence[ViewGroup]) -> None:
        self._encode = keys.encode
        self._wanted: list[tuple[ViewGroup, dict[bytes, int]]] = [(group, {}) for group in groups]

    def add(self, entity_row: object) -> list[int]:
        """Return which of the hashes of each group of views the row is read from.

        Raises
        ------
        InvalidEntityRowError
            Naming the key that is missing, unknown or of the wrong type.
        """
        encoded = self._encode(entity_row)
        return [known.setdefault(group.key(encoded), len(known)) for group, known in self._wanted]

    def commands(self) -> list[bytes]:
        """Return the packed commands that read them, group by group."""
        return [group.command(key) for group, known in self._wanted for key in known]

    def by_group(self, replies: Sequence[StoredView]) -> GroupReplies:
        """Return the replies to `commands`, those of each group apart."""
        rest = iter(replies)
        return [list(islice(rest, len(known))) for _, known in self._wanted]
