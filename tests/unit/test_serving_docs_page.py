"""What clients and operators may meet is written down."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from serving.http_errors import RESPONSES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text()
VARIABLES = sorted(
    {
        name
        for folder in ("contract", "serving")
        for file in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"((?:SERVING|MLFLOW_TRACKING)_[A-Z_]+)"', file.read_text())
    }
)


@pytest.mark.parametrize("error", RESPONSES, ids=lambda error: error.code)
def test_every_error_is_in_the_table_with_its_status(error: type) -> None:
    assert f"| {error.status} | `{error.code}` |" in PAGE  # type: ignore[attr-defined]


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_is_documented(variable: str) -> None:
    assert variable in PAGE or f"`_{variable.removeprefix('MLFLOW_TRACKING_')}`" in PAGE
