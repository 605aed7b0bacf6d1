"""Steps of preprocessing as ONNX that skl2onnx does not know, or not for every label.

It has no missing indicator, a target encoder for two classes and numbers only, and answers another
value than scikit-learn for a category that an ordinal encoder does not know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import MissingIndicator
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

from runner.packaging.converter_graph import ConverterGraph

Table = npt.NDArray[np.float32]


def teach_preprocessing() -> None:
    """Let skl2onnx convert the steps of `runner.modelling.pipeline` that are not its own."""
    for cls, convert in (
        (MissingIndicator, _convert_indicator),
        (OrdinalEncoder, _convert_encoder),
        (TargetEncoder, _convert_encoder),
    ):
        update_registered_converter(cls, f"Runner{cls.__name__}", _set_shape, convert)


def _set_shape(operator: Any) -> None:
    encoder = operator.raw_operator
    if isinstance(encoder, MissingIndicator):
        width = len(encoder.features_)
    else:
        width = sum(table.shape[1] for table in _tables(encoder))
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = FloatTensorType([rows, width])


def _convert_indicator(scope: Any, operator: Any, container: Any) -> None:
    graph = ConverterGraph(scope, container)
    missing = graph.add("IsNaN", graph.joined(operator))
    graph.add("Cast", missing, operator.outputs[0].full_name, to=TensorProto.FLOAT)


def _convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    """Write each text as its row in a table of numbers; the last row is for one not known."""
    graph, encoder = ConverterGraph(scope, container), operator.raw_operator
    texts, columns = graph.joined(operator), []
    for position, (categories, table) in enumerate(
        zip(encoder.categories_, _tables(encoder), strict=True)
    ):
        number = graph.add(
            "LabelEncoder",
            graph.add("Gather", [texts, graph.constant(position)], axis=1),
            op_domain="ai.onnx.ml",
            op_version=2,
            keys_strings=[str(category).encode() for category in categories],
            values_int64s=list(range(len(categories))),
            default_int64=len(categories),
        )
        columns.append(graph.add("Gather", [graph.constant(table), number], axis=0))
    graph.add("Concat", columns, operator.outputs[0].full_name, axis=1)


def _tables(encoder: OrdinalEncoder | TargetEncoder) -> list[Table]:
    """Return the numbers of each text feature's categories, shape (n_categories + 1, width)."""
    if isinstance(encoder, OrdinalEncoder):
        codes = [np.append(np.arange(len(known)), np.nan) for known in encoder.categories_]
        return [column[:, np.newaxis].astype(np.float32) for column in codes]
    means = np.atleast_1d(encoder.target_mean_)  # one for each class, if there are several
    width = len(means)
    return [
        np.vstack(
            [np.column_stack(encoder.encodings_[first : first + width]), means], dtype=np.float32
        )
        for first in range(0, len(encoder.encodings_), width)
    ]
