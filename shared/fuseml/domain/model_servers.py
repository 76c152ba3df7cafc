"""Model servers: the programs that serve a model of a format, and the servings that run them.

A serving is chosen by the step's binding, a format by the files of the model. The model server follows from both, or is named. Each
combination is either served, or refused with the ways out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors

Format = Literal["mlflow", "sklearn", "xgboost", "lightgbm", "onnx", "tensorflow", "pytorch", "openvino", "triton"]
"""The form of a model's files. `mlflow` is a folder with a file `MLmodel`, `triton` a model repository, `pytorch` a TorchScript file."""

Server = Literal["fuseml", "mlserver", "mlflow", "sklearn", "tensorflow", "triton", "openvino"]
"""`fuseml` is FuseML's own model server, `mlflow` MLflow's scoring server, `sklearn` that of KServe, `tensorflow` TensorFlow Serving."""

Protocol = Literal["v2", "v1", "invocations"]
"""The Open Inference Protocol, that of TensorFlow Serving, or that of MLflow."""

MLSERVER_VARIABLES: Mapping[str, str] = {"MLSERVER_PARALLEL_WORKERS": "0"}
"""MLServer predicts in its own process. A worker would load a second copy of the model, and ends before the server: a request on an open
connection would fail while a pod ends."""

AUTO = "auto"
"""The name that leaves the choice to the rules, as an empty one does."""

_FORMATS: Mapping[Server, Collection[Format]] = {
    "fuseml": ("mlflow", "onnx"),
    "mlserver": ("mlflow", "sklearn", "xgboost", "lightgbm"),
    "mlflow": frozenset[Format](("mlflow",)),
    "sklearn": frozenset[Format](("sklearn",)),
    "tensorflow": frozenset[Format](("tensorflow",)),
    "triton": ("onnx", "tensorflow", "pytorch", "openvino", "triton"),
    "openvino": ("openvino", "onnx", "tensorflow"),
}
_PROTOCOLS: Mapping[Server, Protocol] = {"mlflow": "invocations", "tensorflow": "v1"}

SERVERS: Collection[Server] = tuple(_FORMATS)

FUSEML = "fuseml-serving"
OFFERED: Mapping[str, Collection[Server]] = {
    FUSEML: ("fuseml", "mlserver", "mlflow"),
    "kserve-api": ("mlserver", "sklearn", "tensorflow", "triton", "openvino"),
    "seldon-core-api": ("mlserver", "tensorflow", "triton"),
    "seldon-core-v2-api": ("mlserver", "triton"),
}
"""The resource of a serving -> the model servers that it runs on a cluster, in the order in which they are chosen."""

EMBEDDED = frozenset[Server](("fuseml",))
"""The model servers of the embedded server."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The model server of an application, the format that it reads, and the protocol of its predictions."""

    server: Server
    format: Format
    protocol: Protocol

    def path(self, name: str) -> str:
        """The path of predictions of the model `name`."""
        return {"v2": f"/v2/models/{name}/infer", "v1": f"/v1/models/{name}:predict", "invocations": "/invocations"}[self.protocol]


def choose(format: Format, server: str = AUTO, *, served_by: str = FUSEML, offered: Collection[Server] | None = None) -> Choice:
    """The choice for a model of the format, where the serving `served_by` runs the servers `offered` (by default those of a cluster).
    `server` is the name of a model server, `auto` or empty.

    Raises InvalidError, which names the formats, servers and servings that fit.
    """
    runs = OFFERED.get(served_by, ()) if offered is None else offered
    if server in ("", AUTO):
        fitting = [item for item in runs if format in _FORMATS[item]]
        if not fitting:
            raise errors.InvalidError(f"{served_by} serves no model of the format {format!r}: {_ways_out(format)}")
        return _choice(fitting[0], format)
    known = next((item for item in SERVERS if item == server), None)
    if known is None:
        raise errors.InvalidError(f"there is no model server {server!r}; there are {', '.join((AUTO, *SERVERS))}")
    if format not in _FORMATS[known]:
        reads = ", ".join(_FORMATS[known])
        raise errors.InvalidError(f"the model server {server!r} reads no model of the format {format!r} but {reads}: {_ways_out(format)}")
    if known not in runs:
        raise errors.InvalidError(f"{served_by} does not run the model server {server!r} here: {_ways_out(format, runs)}")
    return _choice(known, format)


def _choice(server: Server, format: Format) -> Choice:
    return Choice(server, format, _PROTOCOLS.get(server, "v2"))


def _ways_out(format: Format, runs: Collection[Server] = ()) -> str:
    """The changes with which a model of the format is served."""
    fitting = [item for item in runs if format in _FORMATS[item]]
    here = [f"leave the server out or name {' or '.join(fitting)}"] if fitting else []
    elsewhere = [f"{resource} ({' or '.join(servers)})" for resource, servers in _servings(format)]
    others = [f"let the step's selector for prediction-serving resolve to {', '.join(elsewhere)}"] if elsewhere else []
    logged = [] if format == "mlflow" else ["log the model with MLflow, whose format every serving takes"]
    return "; ".join([*here, *others, *logged])


def _servings(format: Format) -> Iterator[tuple[str, list[Server]]]:
    for resource, servers in OFFERED.items():
        fitting = [item for item in servers if format in _FORMATS[item]]
        if fitting:
            yield resource, fitting
