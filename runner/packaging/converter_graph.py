"""The part of an ONNX graph that one of our converters for skl2onnx writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

_KINDS = {"f": TensorProto.FLOAT, "i": TensorProto.INT64}


class ConverterGraph:
    """Nodes and constants, each under a name that is new in the whole graph."""

    def __init__(self, scope: Any, container: Any) -> None:
        self._scope = scope
        self._container = container

    def add(self, op: str, inputs: Any, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its only output."""
        output = output or self._scope.get_unique_variable_name(op.lower())
        name = self._scope.get_unique_operator_name(op)
        self._container.add_node(op, inputs, output, name=name, **attributes)
        return output

    def constant(self, values: npt.ArrayLike) -> str:
        """Return the name of a constant: of float32 or int64 numbers, or of texts."""
        array = np.asarray(values)
        kind = _KINDS.get(array.dtype.kind, TensorProto.STRING)
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, list(array.shape), array.reshape(-1).tolist())
        return name

    def joined(self, operator: Any) -> str:
        """Return the inputs of skl2onnx's operator as one, shape (n_rows, n_columns)."""
        names = [variable.full_name for variable in operator.inputs]
        return names[0] if len(names) == 1 else self.add("Concat", names, axis=1)
