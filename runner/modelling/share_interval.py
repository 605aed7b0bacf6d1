"""How sure a share of some rows is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_Z = 1.96  # standard deviations on either side that hold 95 % of a normal distribution
_Floats = npt.NDArray[np.float64]


def wilson(share: _Floats, rows: npt.NDArray[np.intp] | _Floats) -> _Floats:
    """Return the 95 % interval of a share of so many rows, shape (2, n_shares).

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference
    (1927). Unlike the normal approximation it does not leave 0 to 1.
    """
    middle = share + _Z**2 / (2 * rows)
    half = _Z * np.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    return np.asarray(np.array([middle - half, middle + half]) / (1 + _Z**2 / rows))
