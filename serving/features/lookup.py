"""What a batch of entity rows reads from the online store."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from contract.view_layout import StoredView
from serving.features.view_group import GroupReplies, ViewGroup


class Lookup:
    """The hashes that the entity rows of a batch are read from, each once.

    Rows may share them: one user with a hundred categories has one row of user features.
    """

    def __init__(self, groups: Sequence[ViewGroup]) -> None:
        self._wanted: list[tuple[ViewGroup, dict[bytes, int]]] = [(group, {}) for group in groups]

    def add(self, encoded: Sequence[Sequence[bytes]]) -> list[tuple[int, ...]]:
        """Return, of each row, the number of the hash that holds it in each group of views.

        Parameters
        ----------
        encoded
            The rows' keys, as `EntityKeys.encode` returns them.
        """
        numbers = [
            [known.setdefault(key, len(known)) for key in group.keys(encoded)]
            for group, known in self._wanted
        ]
        return list(zip(*numbers, strict=True)) if numbers else [()] * len(encoded)

    def commands(self) -> list[bytes]:
        """Return the packed commands that read them, group by group."""
        return [group.command(key) for group, known in self._wanted for key in known]

    def by_group(self, replies: Sequence[StoredView]) -> GroupReplies:
        """Return the replies to `commands`, split by group."""
        rest = iter(replies)
        return [list(islice(rest, len(known))) for _, known in self._wanted]
