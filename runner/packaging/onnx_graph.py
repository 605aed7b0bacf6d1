"""Nodes and constants appended to a finished ONNX model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

PROBABILITIES = "probabilities"
"""skl2onnx's name of a classifier's second output, raw scores or not."""


class GraphWriter:
    """Adds nodes and constants to a model's graph, each under a name of its own."""

    def __init__(self, model: onnx.ModelProto, prefix: str) -> None:
        self._graph = model.graph
        self._prefix = prefix
        self._count = 0

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        name = self._name()
        self._graph.node.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def column(self, tensor: str, number: int) -> str:
        """Return a tensor's column, shape (n_rows, 1)."""
        return self.node("Gather", tensor, self.constant(TensorProto.INT64, [1], [number]), axis=1)

    def double(self, values: Any) -> str:
        """Return a constant of float64, shape (n_values,)."""
        return self.constant(TensorProto.DOUBLE, [len(values)], values)

    def constant(self, kind: int, shape: list[int], values: Any) -> str:
        """Return a constant of a type and shape."""
        name = self._name()
        if kind == TensorProto.STRING:
            values = [value.encode() for value in values]
        tensor = helper.make_tensor(name, kind, shape, list(np.ravel(values)))
        self._graph.initializer.append(tensor)
        return name

    def class_at(self, position: str, classes: list[Any]) -> tuple[str, int]:
        """Return the class of each row's position in `classes`, and its ONNX type."""
        kind = TensorProto.STRING if isinstance(classes[0], str) else TensorProto.INT64
        return self.node("Gather", self.constant(kind, [len(classes)], classes), position), kind

    def answer(self, label: str, kind: int, probabilities: str, n_classes: int) -> None:
        """Let the model answer this label of type `kind` and these float32 probabilities."""
        del self._graph.output[:]
        shape = [None, n_classes]
        self._graph.output.extend(
            [
                helper.make_tensor_value_info(label, kind, [None]),
                helper.make_tensor_value_info(probabilities, TensorProto.FLOAT, shape),
            ]
        )

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}_{self._count}"
