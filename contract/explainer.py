"""Explains predictions: what each model input contributes to a row's score.

The scores are those of the estimator, before any calibration and decision threshold; the bundle
has what is needed beside the model. `contract.tree_contributions` says what is computed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from contract.bundle import Bundle
from contract.columns import Column
from contract.computation import computation_of
from contract.explained import BundleExplanation
from contract.linear_contributions import LinearArrays, LinearContributions
from contract.onnx_model import open_session
from contract.scoring import Model
from contract.serving_errors import BundleError
from contract.skops_model import SkopsModel
from contract.tensors import Tensors
from contract.tree_contributions import TreeContributions
from contract.tree_paths import TreeArrays

Prepare = Callable[[Mapping[str, Column]], npt.NDArray[np.float32]]
"""Model inputs by name → the estimator's columns, shape (n_rows, n_columns)."""


class Contributions(Protocol):
    """Computes what each model input contributes."""

    base_value: npt.NDArray[np.float64]

    @property
    def steps(self) -> int:
        """The work that a row is; see `BundleExplanation`."""

    def of(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the contributions of rows of estimator columns: (n_rows, n_inputs, n_outputs)."""


@dataclass(frozen=True)
class Explained:
    """Why rows have the scores that they have: base values and contributions add up to them.

    Attributes
    ----------
    base_values
        Shape (n_outputs,). One output for a regression or two classes (the second), otherwise
        one per class.
    contributions
        Shape (n_rows, n_inputs, n_outputs).
    """

    base_values: npt.NDArray[np.float64]
    contributions: npt.NDArray[np.float64]


class Explainer:
    """Explains the predictions of a bundle's model; what that takes is laid out when first asked.

    Attributes
    ----------
    inputs
        The model inputs that contribute.
    classes
        Those of several outputs; empty where there is one.
    """

    def __init__(self, bundle: Bundle, spec: BundleExplanation, model: Model) -> None:
        self.spec = spec
        self.inputs = tuple(name for tensor in bundle.model.inputs for name in tensor.columns)
        names = tuple(map(str, bundle.label.classes or ()))
        is_one = spec.space != "class_score" and len(names) <= 2
        self.classes = () if is_one else names
        self._second = names[1] if names and is_one else None
        self._row = tuple(bundle.column_dtypes)
        self._computation = computation_of(bundle)
        self._arrays = bundle.read_file(spec.arrays)
        self._prepare = _preparation(bundle, spec, model)

    def rows(self, rows: Sequence[Sequence[Any]]) -> Explained:
        """Return the explanations of rows of values in the order of `bundle.column_dtypes`."""
        return self._explained(dict(zip(self._row, zip(*rows, strict=True), strict=True)))

    def columns(self, columns: Mapping[str, Column]) -> Explained:
        """Return the explanations of the rows of columns, as `Model.score` takes them."""
        return self._explained(self._computation.completed(columns))

    def answer(self, found: Explained, row: int) -> dict[str, object]:
        """Return a row's explanation as the API answers it."""
        outputs: list[dict[str, object]] = [
            {"base_value": base, "contributions": dict(zip(self.inputs, values, strict=True))}
            for base, values in zip(
                found.base_values.tolist(), found.contributions[row].T.tolist(), strict=True
            )
        ]
        score: dict[str, object] = {"score": self.spec.score}
        if self.classes:
            return {**score, "classes": dict(zip(self.classes, outputs, strict=True))}
        if self._second is not None:
            score["class"] = self._second
        return score | outputs[0]

    def _explained(self, columns: Mapping[str, Column]) -> Explained:
        base = self._contributions.base_value
        if not len(next(iter(columns.values()))):
            return Explained(base, np.empty((0, len(self.inputs), len(base))))
        return Explained(base, self._contributions.of(self._prepare(columns)))

    @cached_property
    def _contributions(self) -> Contributions:
        return read_contributions(self.spec.kind, self._arrays)


def load_explainer(bundle: Bundle, model: Model) -> Explainer | None:
    """Return what explains the bundle's model; None if `bundle.explanation` says nothing can.

    Raises
    ------
    BundleError
        If its files are not what they must be.
    """
    spec = bundle.explanation
    if spec is None or spec.unavailable:
        return None
    try:
        return Explainer(bundle, spec, model)
    except BundleError:
        raise
    except Exception as err:  # as of the model: ONNX Runtime raises a dozen types of its own
        raise BundleError(
            f"{bundle.folder / spec.preprocessing}: cannot be loaded ({err})", hint="train again"
        ) from err


def write_contributions(model: LinearArrays | TreeArrays, owner: npt.NDArray[np.intp]) -> bytes:
    """Return the content of the file that `read_contributions` reads.

    Parameters
    ----------
    owner
        The model input that each column was made from, shape (n_columns,).
    """
    file = io.BytesIO()
    np.savez_compressed(file, owner=owner, **model._asdict())
    return file.getvalue()


def read_contributions(kind: str, content: bytes) -> Contributions:
    """Return what computes contributions out of a file's content."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    owner = arrays.pop("owner")
    if kind == "linear":
        return LinearContributions(LinearArrays(**arrays), owner)
    return TreeContributions(TreeArrays(**arrays), owner)


def _preparation(bundle: Bundle, spec: BundleExplanation, model: Model) -> Prepare:
    if isinstance(model, SkopsModel):
        return model.prepared
    session, tensors = open_session(bundle.read_file(spec.preprocessing)), Tensors(bundle)

    def prepared(columns: Mapping[str, Column]) -> npt.NDArray[np.float32]:
        outputs: list[npt.NDArray[np.float32]] = session.run(None, tensors.from_columns(columns))
        return outputs[0]

    return prepared
