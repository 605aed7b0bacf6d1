"""Run a notebook's cells in this process, and keep what they show as Jupyter does.

`python -m tests.notebook examples/shop.ipynb` writes the outputs into the file, after `make demo`.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

Cell = dict[str, Any]


def execute(notebook: dict[str, Any]) -> None:
    """Run the code cells in their order; each has its new outputs afterwards."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(_code(notebook), 1):
        cell["execution_count"] = number
        cell["outputs"] = list(_outputs("".join(cell["source"]), number, namespace))


def kinds(notebook: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Return each code cell with its outputs, but for numbers, times and flags in them."""
    return [
        ("".join(cell["source"]), [tuple(_kind(output)) for output in cell["outputs"]])
        for cell in _code(notebook)
    ]


def _code(notebook: dict[str, Any]) -> list[Cell]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _outputs(source: str, number: int, namespace: dict[str, Any]) -> Iterator[Cell]:
    statements = ast.parse(source).body
    last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with redirect_stdout(printed):
        exec(compile(ast.Module(statements, []), "cell", "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    if text := printed.getvalue():
        yield {"output_type": "stream", "name": "stdout", "text": _lines(text)}
    if value is not None and not source.rstrip().endswith(";"):
        shown = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = _lines(value._repr_html_())
        yield {
            "output_type": "execute_result",
            "execution_count": number,
            "data": shown,
            "metadata": {},
        }
    for picture in _pictures():
        yield {"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}


def _pictures() -> Iterator[str]:
    """Yield the figures that were drawn, as PNG in base64, and close them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    for number in pyplot.get_fignums() if pyplot else ():
        png = io.BytesIO()
        pyplot.figure(number).savefig(png, dpi=72, bbox_inches="tight")
        pyplot.close(number)
        yield base64.b64encode(png.getvalue()).decode()


def _kind(output: Cell) -> Iterator[str]:
    yield output["output_type"]
    data = output.get("data", {"text/plain": output.get("text", "")})
    yield from sorted(data)
    yield " ".join(_without_values("".join(data.get("text/plain", ""))).split())


def _without_values(text: str) -> str:
    return re.sub(r"[-+]?\b\d[\w.:+-]*|<NA>|NaN|True|False|<Axes:.*>", "0", text)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    read = json.loads(file.read_text(encoding="utf-8"))
    execute(read)
    file.write_text(json.dumps(read, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
