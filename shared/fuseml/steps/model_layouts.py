"""The layouts that Triton, TensorFlow Serving and OpenVINO Model Server expect of a model's files: numbered versions, and names of their own.

A layout is written beside the model, in a folder that the digest of its files names: the files of the model, and so its digest, stay.
"""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from fuseml.steps import model_digest, sdk
from fuseml.steps.scoring import s3

_SAVED_MODEL = "saved_model.pb"
_READS = {
    "triton": ("onnx", "tensorflow", "openvino", "pytorch"),
    "openvino": ("openvino", "onnx", "tensorflow"),
    "tensorflow": ("tensorflow",),
}
"""Server -> the formats that it reads, in the order in which they are looked for in a model that holds several."""
_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pytorch": ".pt"}
_BLOCK = 1 << 20


def servers() -> Collection[str]:
    """The model servers that need a layout."""
    return _READS


def arranged(server: str, name: str, files: Collection[str]) -> tuple[str, Mapping[str, str]]:
    """The format that the server will read, and its files: path in the layout of the model `name` -> path in the model.

    Raises StepError for a model without a format that the server reads.
    """
    for format in _READS[server]:
        found = _of_format(format, files)
        if found:
            return format, {f"{_folder(server, name, format)}/{target}": source for target, source in found.items()}
    expected = ", ".join("TensorFlow's SavedModel" if format == "tensorflow" else f"*{_SUFFIXES[format]}" for format in _READS[server])
    raise sdk.StepError(
        f"the model has no file that the model server '{server}' reads ({expected}): log it in one of these formats, or leave the input "
        "'predictor' to auto"
    )


def _folder(server: str, name: str, format: str) -> str:
    folder = f"{name}/1" if server == "triton" else "1"
    return f"{folder}/model.savedmodel" if server == "triton" and format == "tensorflow" else folder


def _of_format(format: str, files: Collection[str]) -> dict[str, str]:
    """The files of the format; none without any, or with several models of it."""
    if format == "tensorflow":
        roots = sorted(posixpath.dirname(path) for path in files if posixpath.basename(path) == _SAVED_MODEL)
        if len(roots) != 1:
            return {}
        start = f"{roots[0]}/" if roots[0] else ""
        return {path[len(start) :]: path for path in files if path.startswith(start)}
    models = [path for path in files if path.endswith(_SUFFIXES[format])]
    if len(models) != 1:
        return {}
    [model] = models
    stem = model[: -len(_SUFFIXES[format])]
    beside = posixpath.dirname(model)
    named = {f"model{_SUFFIXES[format]}": model}
    if format == "openvino" and f"{stem}.bin" in files:
        named["model.bin"] = f"{stem}.bin"
    if format == "onnx":
        # A large model keeps its weights in files beside it, which it names.
        others = (path for path in files if posixpath.dirname(path) == beside and path.endswith((".data", ".bin", ".weight")))
        named |= {posixpath.basename(path): path for path in others}
    return named


def write(server: str, name: str, model: str, location: str) -> tuple[str, str]:
    """Write the layout of the model at the address `model` beside `location`, its place. Returns the format, and the place of the layout.

    Raises StepError for a place outside of S3, and for a model that cannot be downloaded or that the server does not read.
    """
    if not location.startswith("s3://"):
        raise sdk.StepError(
            f"the model server '{server}' needs the files of {model} in a layout of its own, which is written to s3:// only"
        )
    import mlflow.artifacts

    with tempfile.TemporaryDirectory() as downloads:
        try:
            place = Path(mlflow.artifacts.download_artifacts(model, dst_path=downloads))
        except Exception as error:  # of MLflow and its stores
            raise sdk.StepError(f"the files of {model} cannot be read here: {type(error).__name__}: {error}") from error
        root = place if place.is_dir() else place.parent
        files = [file.relative_to(root).as_posix() for file in sorted(root.rglob("*")) if file.is_file()]
        format, wanted = arranged(server, name, files)
        digest = model_digest.of_folder(root).rpartition(":")[2][:12]
        # Triton serves every model of its folder, so each application has one of its own.
        target = f"{location.rstrip('/')}-served/{digest}/{server}{f'/{name}' if server == 'triton' else ''}"
        for path, source in wanted.items():
            with (root / source).open("rb") as content, s3.uploaded(f"{target}/{path}") as append:
                while block := content.read(_BLOCK):
                    append(block)
    sdk.say(f"the files of {model} are arranged for '{server}' at {target}")
    return format, target
