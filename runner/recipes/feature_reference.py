"""How recipes name features: `view:feature`, or `view[role]:feature` of one of several entities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from runner.project.relations import MartColumn, full_name


class FeatureReference(NamedTuple):
    """A feature, or with `*` every feature, of a view; `role` is empty where there is none."""

    view: str
    role: str
    feature: str

    @classmethod
    def parse(cls, text: str) -> FeatureReference:
        """Return the parts of a reference that is one.

        Examples
        --------
        >>> FeatureReference.parse("account_activity[sender]:payments_7d")
        FeatureReference(view='account_activity', role='sender', feature='payments_7d')
        """
        projection, _, feature = text.partition(":")
        view, _, role = projection.partition("[")
        return cls(view, role.removesuffix("]"), feature)

    @property
    def projection(self) -> str:
        """The view, with the role that it is joined in: `view` or `view[role]`."""
        return f"{self.view}[{self.role}]" if self.role else self.view

    @property
    def column(self) -> str:
        """The column in training rows and model inputs: `view__feature` or `role__feature`."""
        return full_name(self.role or self.view, self.feature)

    def __str__(self) -> str:
        return f"{self.projection}:{self.feature}"

    def spelled_out(
        self, features: Iterable[MartColumn]
    ) -> Iterator[tuple[FeatureReference, MartColumn]]:
        """Yield each feature that it names, with its own reference: one, or with `*` all."""
        for column in features:
            if self.feature in {"*", column.name}:
                yield self._replace(feature=column.name), column
