"""A bundle is served only when every file is what was exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contract.bundle_reader import read_bundle
from contract.serving_errors import BundleError
from tests.serving_bundles import manifest, write_bundle, write_linear_bundle


def test_a_sound_bundle_is_read_with_its_features_and_digest(tmp_path: Path) -> None:
    digest = write_linear_bundle(tmp_path)
    bundle = read_bundle(tmp_path, digest)
    assert bundle.digest == digest
    assert [key.name for key in bundle.entity_keys] == ["user_id", "category_id"]
    assert bundle.features[2].join_keys == ("user_id",)
    assert bundle.features[2].ttl_seconds == 604_800
    assert len(bundle.features[2].redis_field) == 4
    assert bundle.label.classes == (0, 1)


def test_a_bundle_other_than_the_registered_one_is_refused(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    with pytest.raises(BundleError, match="is not the registered 0000"):
        read_bundle(tmp_path, "0000")


def test_a_changed_model_file_is_refused(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    with (tmp_path / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"model\.onnx: content does not match"):
        read_bundle(tmp_path)


def test_a_missing_model_file_is_refused(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path)
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: cannot be read \(No such file"):
        read_bundle(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"serving\.json: cannot be read"):
        read_bundle(tmp_path)


def test_another_format_version_is_refused_before_anything_else(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path, format_version=4)
    with pytest.raises(BundleError, match="format_version 4, this server reads 1 to 3"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"[]", b'"x"'])
def test_a_manifest_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "serving.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"serving\.json: document: "):
        read_bundle(tmp_path)


def _changed(position: int, **changes: Any) -> dict[str, Any]:
    features = manifest()["features"]
    features[position] |= changes
    return {"features": features}


def _model(*columns: str, kind: str = "float", file: str = "model.onnx") -> dict[str, Any]:
    inputs = [{"name": "numeric", "type": kind, "columns": list(columns)}]
    return {"model": {"file": file, "format": "onnx", "inputs": inputs}}


CHANNEL = {"name": "channel", "dtype": "string"}
TWICE = {
    "name": "orders_twice",
    "dtype": "float64",
    "expression": ["multiply", ["column", "user_activity__orders_7d"], ["literal", 2]],
}


def _computed(**changes: Any) -> dict[str, Any]:
    return {"computed": [TWICE | changes], "format_version": 3}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"features": []}, "model.inputs: Tuple should have at least 1 item"),
        (_changed(0, redis_field="zz"), "features.0.redis_field: .*hexadecimal"),
        (_changed(0, redis_field=7), "features.0.redis_field: .*8 hexadecimal digits"),
        (_changed(0, dtype="decimal"), "features.0.dtype"),
        (_changed(0, name="user_activity__orders_7d"), "user_activity__orders_7d appears twice"),
        (_changed(4, join_keys=["user_id", "category_id"]), "join_keys must be sorted names"),
        (_changed(0, join_keys=["shop_id"]), "join_keys must be sorted names out of entity_keys"),
        (_changed(0, ttl_seconds=5), "differ within view user_demographics"),
        (_model("user_demographics__agee"), "user_demographics__agee is not a feature"),
        (_model("user_demographics__country"), "country is string, the tensor is float"),
        (_model("user_demographics__age", kind="string"), "age is int64, the tensor is string"),
        (_model("user_demographics__age", file="other.onnx"), "files: no digest of other.onnx"),
        ({"request": [CHANNEL]}, "request: expected none in format_version 1"),
        (
            {"request": [CHANNEL | {"name": "user_id"}], "format_version": 3},
            "request.user_id: is an entity key too",
        ),
        ({"request": [CHANNEL, CHANNEL], "format_version": 3}, "channel appears twice"),
        ({"computed": [TWICE]}, "computed: expected none in format_version 1"),
        (_computed(name="user_demographics__age"), "age: appears twice"),
        (_computed(dtype="string"), "computed.orders_twice: is number, not string"),
        (_computed(expression=["system", ["literal", "x"]]), "there is no operation 'system'"),
        (_computed(expression=["column", "age"]), "there is no column 'age'"),
        ({"files": {"model.onnx": "0", "../x": "0"}}, r"files: \.\./x is not a plain file name"),
        (
            {"label": {"name": "x", "description": "", "classes": [1]}},
            "label.classes: expected two or more",
        ),
        (
            {"label": {"name": "x", "description": "", "classes": [0.5, 1.5]}},
            "label.classes",
        ),
        (
            {"label": {"name": "x", "classes": [0, 1, 2], "decision_threshold": 0.5}},
            "label.decision_threshold: expected null unless there are two classes",
        ),
        (
            {"label": {"name": "x", "classes": [0, 1], "decision_threshold": 1.5}},
            "label.decision_threshold: Input should be less than or equal to 1",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused_and_says_where(
    tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    write_bundle(tmp_path, b"", manifest() | changes)
    with pytest.raises(BundleError, match=complaint) as caught:
        read_bundle(tmp_path)
    assert str(tmp_path / "serving.json") in caught.value.message
    assert caught.value.hint


def test_a_computed_column_is_a_model_input_after_the_others(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path, **_computed())
    bundle = read_bundle(tmp_path)
    assert list(bundle.column_dtypes) == [*bundle.row_dtypes, "orders_twice"]
    assert "orders_twice" not in bundle.row_dtypes


def test_fields_that_a_later_release_adds_do_not_matter(tmp_path: Path) -> None:
    write_linear_bundle(tmp_path, added_later={"a": 1})
    assert json.loads((tmp_path / "serving.json").read_text())["added_later"]
    assert read_bundle(tmp_path).run_id == "run1"
