"""Formats of models by the names of their files, and the layouts that other model servers expect."""

from __future__ import annotations

import pytest

from fuseml.steps import model_formats, model_layouts, sdk

ONNX = ["MLmodel", "conda.yaml", "model.onnx", "model.onnx.data"]
KERAS = ["MLmodel", "data/model/saved_model.pb", "data/model/variables/variables.index", "data/keras_module.txt"]


@pytest.mark.parametrize(
    ("names", "format"),
    [
        (ONNX, "mlflow"),
        (KERAS, "mlflow"),
        (["wine.onnx"], "onnx"),
        (["1/model.onnx"], "onnx"),
        (["1/saved_model.pb", "1/variables"], "tensorflow"),
        (["saved_model.pb", "variables"], "tensorflow"),
        (["wine/config.pbtxt", "wine/1"], "triton"),
        (["net.xml", "net.bin"], "openvino"),
        (["model.joblib"], "sklearn"),
        (["model.skops", "README.md"], "sklearn"),
        (["model.ubj"], "xgboost"),
        (["model.lgb"], "lightgbm"),
        (["weights.pt"], "pytorch"),
        (["README.md", "data.csv"], ""),
    ],
)
def test_the_format_follows_from_the_names_of_the_files(names: list[str], format: str) -> None:
    assert model_formats.of_files(names) == format


@pytest.mark.parametrize(
    ("server", "files", "format", "layout"),
    [
        ("triton", ONNX, "onnx", {"wine/1/model.onnx": "model.onnx", "wine/1/model.onnx.data": "model.onnx.data"}),
        ("openvino", ["net.onnx"], "onnx", {"1/model.onnx": "net.onnx"}),
        ("openvino", ["a/net.xml", "a/net.bin"], "openvino", {"1/model.xml": "a/net.xml", "1/model.bin": "a/net.bin"}),
        (
            "tensorflow",
            KERAS,
            "tensorflow",
            {
                "1/saved_model.pb": "data/model/saved_model.pb",
                "1/variables/variables.index": "data/model/variables/variables.index",
            },
        ),
        (
            "triton",
            ["saved_model.pb", "variables/v"],
            "tensorflow",
            {"wine/1/model.savedmodel/saved_model.pb": "saved_model.pb", "wine/1/model.savedmodel/variables/v": "variables/v"},
        ),
        ("triton", ["net.pt"], "pytorch", {"wine/1/model.pt": "net.pt"}),
    ],
)
def test_a_layout_has_a_numbered_version_with_the_names_of_the_server(
    server: str, files: list[str], format: str, layout: dict[str, str]
) -> None:
    assert model_layouts.arranged(server, "wine", files) == (format, layout)


@pytest.mark.parametrize(
    ("server", "files"), [("triton", ["MLmodel", "model.pkl"]), ("tensorflow", ONNX), ("openvino", ["a.onnx", "b.onnx"])]
)
def test_a_model_without_one_file_that_the_server_reads_is_refused_with_what_it_reads(server: str, files: list[str]) -> None:
    with pytest.raises(sdk.StepError, match=rf"the model server '{server}' reads \(.*leave the input 'predictor' to auto"):
        model_layouts.arranged(server, "wine", files)
