"""`Project` in Python: the page's blocks, run in a process of their own in the shop."""

import json
import re
import shutil

import pytest

from tests import notebook
from tests.e2e.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs/python-api.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# matplotlib draws `hist` without a screen.
BEFORE = """
import os
os.environ["MPLBACKEND"] = "Agg"
before = dict(os.environ)
"""
AFTER = """
import json
from pathlib import Path
assert dict(os.environ) == before, set(os.environ) ^ set(before)
assert frame.shape[0] == project.training_table("recipes/rf.yaml").num_rows
shuffled = keys.sample(frac=1, random_state=0)
again = Project("recipes").champion("recipes/rf.yaml").predict(shuffled)
assert again.index.equals(shuffled.index)
wrong = []
for call in (
    lambda: champion.online(keys[["user_id"]]),
    lambda: champion.online(keys.assign(user_id="x")),
    lambda: champion.online(keys.assign(user_id=None)),
    lambda: champion.predict(keys.assign(user_id="x")),
    lambda: project.champion("category_purchase").version,
    lambda: project.training_frame("recipes/none.yaml"),
):
    try:
        call()
    except RunnerError as error:
        wrong.append(error.message)
Path("found.json").write_text(json.dumps({
    "rows": len(frame),
    "dtypes": frame.dtypes.astype(str).to_dict(),
    "version": champion.version,
    "scores": champion.scores,
    "keys": keys.to_dict("records"),
    "probabilities": predictions["probability_1"].tolist(),
    "again": again["probability_1"].sort_index().tolist(),
    "expected_again": predictions["probability_1"].sort_index().tolist(),
    "columns": [list(predictions), list(online)],
    "online": json.loads(online.to_json(orient="records")),
    "wrong": wrong,
}))
"""


@pytest.fixture(scope="module")
def found(shop, tmp_path_factory):
    """Run the page's blocks and a few lines after them; return the results."""
    script = tmp_path_factory.mktemp("page") / "page.py"
    script.write_text("\n".join([BEFORE, *BLOCKS, AFTER]))
    done = shop.run("python", str(script))
    assert done.returncode == 0, done.stderr
    assert "keys: no column 'category_id'\nthis model needs" in done.stdout
    file = shop.root / "found.json"
    answer = json.loads(file.read_text())
    file.unlink()
    return answer


def test_the_training_frame_has_the_rows_of_the_spine_in_nullable_types(shop, found):
    [(rows,)] = shop.query("select count(*) from spine_data.spine_category_purchase")
    assert found["rows"] == rows
    assert found["dtypes"]["user_activity__orders_7d"] == "Int64"
    assert {"user_id", "event_timestamp", "is_purchase_7d"} <= found["dtypes"].keys()


def test_predictions_in_python_equal_those_over_http(found, serving):
    answer = serving.post("/predict", {"entity_rows": found["keys"]})
    online = [row["probabilities"]["1"] for row in answer["predictions"]]
    assert found["probabilities"] == pytest.approx(online, abs=1e-6)
    assert found["again"] == found["expected_again"]
    assert found["version"] == "1"
    assert 0.5 < found["scores"]["roc_auc"] < 1


def test_online_features_are_those_of_the_online_store(shop, found):
    predicted, online = found["columns"]
    assert predicted[-4:] == ["prediction", "probability_0", "probability_1", "missing_views"]
    first = found["online"][0]
    told = json.loads(
        shop.runner("online", "get", "user_activity", f"user_id={first['user_id']}", "--json")
    )
    values = {f"user_activity__{one['feature']}": one["value"] for one in told["values"]}
    shown = {name: value for name, value in first.items() if name in values}
    assert shown == pytest.approx({name: values[name] for name in shown})
    assert len(shown) > 3
    assert online[:2] == ["user_id", "category_id"]


def test_what_cannot_be_answered_is_an_error_that_names_the_keys(found):
    column, kind, empty, predicted, unknown, recipe = found["wrong"]
    assert column == "keys: no column 'category_id'"
    assert kind == "keys: user_id: expected int64, got string"
    assert empty == "keys: user_id is empty in 100 rows"
    assert predicted.startswith("keys: user_id in row 1: expected int64, got 'x'")
    assert "category_purchase" in unknown
    assert "none.yaml" in recipe


def test_the_notebook_shows_what_its_cells_give(shop, tmp_path):
    stored, executed = REPOSITORY / "examples/shop.ipynb", tmp_path / "shop.ipynb"
    shutil.copy(stored, executed)
    assert stored.stat().st_size < 100_000
    done = shop.run("python", "-m", "tests.notebook", str(executed), MPLBACKEND="Agg")
    assert done.returncode == 0, done.stderr
    cells = [notebook.kinds(json.loads(file.read_text())) for file in (stored, executed)]
    assert cells[0] == cells[1]
    assert sum(len(outputs) for _, outputs in cells[0]) > 8
