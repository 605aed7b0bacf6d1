"""Rows of features as the ML model sees them.

The rule itself stands in `contract.scoring`, so training, batch and online cannot differ: numbers
and flags become float32 with NaN for null, text stays text with "" for null. float32 is what the
ONNX model computes in; fitting on the very same values makes both see equal inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pandas as pd
import pyarrow as pa

from contract.scoring import float_tensor, text_tensor


class InputColumn(Protocol):
    """What makes a column of a table a model input: a feature, of dbt's or of a record."""

    @property
    def column(self) -> str:
        """Its name in the table, `view__feature`."""

    @property
    def dtype(self) -> str:
        """Its type, such as `int64` or `string`."""


def model_inputs(table: pa.Table, features: Sequence[InputColumn]) -> pd.DataFrame:
    """Return the model inputs in `table`, one column per feature.

    Returns
    -------
    DataFrame of shape (n_rows, n_features)
        float32 (NaN where null) or object holding str ("" where null), in the features' order.
    """
    return pd.DataFrame(
        {
            feature.column: (text_tensor if feature.dtype == "string" else float_tensor)(
                [table[feature.column]]
            )[:, 0]
            for feature in features
        }
    )
