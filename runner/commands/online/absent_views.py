"""Which rows of a batch a view has nothing for; the rule is that of `contract.missing_views`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from contract.bundle import Bundle
from runner.errors import RunnerError

Absent = Mapping[str, npt.NDArray[np.bool_]]
"""View, or `view[role]` → mask of shape (n_rows,): for which rows it has nothing."""


def absent_views(bundle: Bundle, table: pa.Table) -> Absent:
    """Return the masks of the views of a model, for rows with its features."""
    return {
        projection: np.logical_and.reduce(
            [
                np.asarray(pc.is_null(table[bundle.features[at].name], nan_is_null=True))
                for at in positions
            ]
        )
        for projection, positions in bundle.missing_views.positions.items()
    }


def null_rows(bundle: Bundle, absent: Absent, rows: int) -> npt.NDArray[np.bool_]:
    """Return the mask of the rows that are answered with null."""
    masks = [absent[name] for name, rule in bundle.on_missing_entity.items() if name in absent]
    return np.logical_or.reduce(masks) if masks else np.zeros(rows, dtype=np.bool_)


def refuse_missing(bundle: Bundle, absent: Absent, before: int) -> None:
    """Raise for the first row that is not to be predicted; `before` is how many rows came before.

    Raises
    ------
    RunnerError
        If a view whose rule is `error` has nothing for a row.
    """
    for name, rule in bundle.on_missing_entity.items():
        if rule == "error" and absent[name].any():
            raise RunnerError(
                f"{name} has nothing for row {before + int(absent[name].argmax()) + 1}, and the "
                "recipe says on_missing_entity: error",
                hint="correct or drop rows of unknown entities, or train with on_missing_entity: "
                "null, which leaves their predictions empty",
            )


def view_names(absent: Absent, rows: int) -> pa.Array:
    """Return the names of each row's views that have nothing, apart by `, `; null where none."""
    names = np.full(rows, "", dtype=object)
    for name, mask in absent.items():
        names[mask] = [f"{one}, {name}" if one else name for one in names[mask]]
    return pa.array(names, pa.string(), mask=names == "")
