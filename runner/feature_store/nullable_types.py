"""What pandas holds Arrow's types in, so that a null stays a null and an integer an integer."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}
