"""A model of ONNX as a model of MLflow, whose model server then serves it with onnxruntime."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fuseml.steps import sdk


def as_mlflow(place: Path) -> str:
    """The folder of a model of MLflow that holds the ONNX file at `place`, or the only one in the folder `place`.

    Its signature are the tensors of the graph; a dimension of any length is -1. Raises StepError without exactly one file, and without the
    packages onnx and onnxruntime.
    """
    try:
        import mlflow.onnx
        import onnx
        import onnxruntime  # noqa: F401 - MLflow imports it only when it predicts
    except ImportError as error:
        raise sdk.StepError(
            f"a model of the format onnx needs the packages onnx and onnxruntime: {error}; give the step the output 'image' of a builder as "
            "'runtime', with both among the requirements of the codeset"
        ) from error
    files = [place] if place.is_file() else sorted(place.rglob("*.onnx"))
    if len(files) != 1:
        listed = ", ".join(file.relative_to(place).as_posix() for file in files[:5]) or "none"
        raise sdk.StepError(f"a model of the format onnx has one file *.onnx, and this one has {len(files)} ({listed})")
    model = onnx.load(str(files[0]))
    folder = Path(tempfile.mkdtemp(prefix="onnx-")) / "model"
    # Requirements are given, because MLflow would load the model in another process to find them.
    mlflow.onnx.save_model(model, str(folder), signature=_signature(model), pip_requirements=["onnxruntime"])
    return str(folder)


def _signature(model: Any) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Schema

    constants = {constant.name for constant in model.graph.initializer}
    inputs = [_tensor(value) for value in model.graph.input if value.name not in constants]
    outputs = [_tensor(value) for value in model.graph.output]
    # An output that is a sequence or a map has no type of tensors, and then none is stated.
    return ModelSignature(Schema(inputs), Schema(outputs) if all(outputs) else None)


def _tensor(value: Any) -> Any:
    import numpy
    import onnx.helper
    from mlflow.types.schema import TensorSpec

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return None
    kind = numpy.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(dimension.dim_value if dimension.HasField("dim_value") and dimension.dim_value else -1 for dimension in tensor.shape.dim)
    return TensorSpec(kind, shape, value.name)
