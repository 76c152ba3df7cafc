"""The built-in steps as runnables. They belong to every project, and their version is that of FuseML.

Some have a second name, that of the tool that they work with. A project may register a runnable of its own under a second name, and then it
has that one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from fuseml.domain import model_servers
from fuseml.domain.artifact import Address
from fuseml.domain.runnables.descriptor import Runnable
from fuseml.version import __version__

PROJECT = "fuseml"
"""The project in the addresses of built-in runnables."""

_CODESET = {"name": "codeset", "type": "codeset", "description": "the code"}
_OPTIONAL_CODESET = {**_CODESET, "optional": True}
_MODEL = {"name": "model", "type": "model", "accepts": {"format": "mlflow"}, "description": "the model: an address, or a URI of MLflow"}
_SERVED_MODEL = {**_MODEL, "accepts": {"format": get_args(model_servers.Format)}, "description": "the model: an address, or a URI"}
_TRACKING = {"name": "mlflow-tracking", "product": "mlflow", "service_resource": "mlflow-tracking"}
_STORE = {"name": "model-store", "product": "mlflow", "service_category": "model-store"}
_SERVING = {"name": "prediction-serving", "service_category": "prediction-serving"}
_TRAINING = {"name": "training", "service_category": "training"}
_FORMATS = ("csv", "jsonl", "parquet")


def _optional(name: str, description: str, **fields: object) -> dict[str, object]:
    return {"name": name, "description": description, "optional": True, **fields}


def _rows(name: str, description: str) -> dict[str, object]:
    return _optional(name, description, type="integer", minimum=1)


_DOCUMENTS: Sequence[Mapping[str, Any]] = (
    {
        "name": "builder",
        "kind": "builder",
        "description": "Builds the environment that the codeset's dependency file describes. Its output `runnables` registers the trainer and "
        "the predictor of an MLflow project.",
        "image": "ghcr.io/fuseml/mlflow-builder:v1",
        "inputs": [
            _CODESET,
            _optional("dependencies", "the file that describes the environment; by default the builder finds it"),
            _optional("extras", "extras of the project, separated by commas"),
            _optional("groups", "groups of dependencies, separated by commas"),
            _optional("entrypoint", "the program of the training: an entry point, a file or a command"),
            _optional("accelerator", "the accelerator that packages are chosen for: cpu, or a version of CUDA or ROCm"),
            _optional("index-url", "a package index; none for none"),
            _optional("find-links", "a folder or page of wheels"),
            _optional("runnables", "whether the output `runnables` is written", type="boolean", default="true"),
        ],
        "outputs": [
            {"name": "image", "description": "the environment, as the image of a trainer"},
            {"name": "runnables", "description": "the runnables that FuseML registers", "optional": True},
        ],
    },
    {
        "name": "trainer",
        "kind": "trainer",
        "description": "Runs the training of the codeset in the environment that a builder has built, and outputs the model that it logged.",
        "image": "{{ inputs.image }}",
        "inputs": [
            _CODESET,
            {"name": "image", "description": "the environment: the output `image` of a builder"},
            _optional("entrypoint", "an entry point, a file or a command; by default the trainer finds it"),
            _optional("parameters", "parameters of the training, name=value name=value"),
            _optional("model", "the name of the model among those that the training logs, or none"),
            _optional("metric", "the metric that chooses among them: max:r2"),
            _optional("data", "DVC files to fetch, or pull for all"),
            _optional("mlflow-experiment", "the experiment of MLflow"),
        ],
        "outputs": [
            {"name": "model", "type": "model", "gives": {"format": "mlflow"}},
            {"name": "metrics", "description": "a JSON object"},
            {"name": "mlflow-run", "optional": True},
            {"name": "model-version", "optional": True},
            {"name": "artifacts", "description": "the URI of the run's artifacts", "optional": True},
        ],
        "extensions": [_TRACKING, _STORE],
    },
    {
        "name": "remote-trainer",
        "kind": "trainer",
        "description": "Trains by a job of the tool that the registry has for the category training, and takes the log and the outputs of the job.",
        "image": "ghcr.io/fuseml/trainer:v1",
        "inputs": [
            _OPTIONAL_CODESET,
            {"name": "command", "description": "a command of the shell"},
            _optional("image", "the image of the job, where the tool needs one", takes=["image"]),
            _optional("parameters", "parameters of the training, one NAME=VALUE a line"),
            _optional("nodes", "the nodes of a distributed training", type="integer", minimum=1, maximum=1000),
            _optional("cpu", "processors of each node"),
            _optional("memory", "memory of each node"),
            _optional("gpu", "accelerators of each node"),
            _optional("forward", "names of more variables of the step for the job"),
            _optional("options", "fields of the tool's own document, a JSON object"),
            _optional("patience", "seconds for which the tool may be away", type="number", minimum=0),
            _optional("model", "the name of the model among those that the training logs, or none"),
            _optional("metric", "the metric that chooses among them: max:r2"),
            _optional("mlflow-experiment", "the experiment of MLflow"),
        ],
        "outputs": [
            {"name": "job", "description": "the name of the job in the tool"},
            {"name": "model", "type": "model", "optional": True},
            {"name": "metrics", "description": "a JSON object", "optional": True},
            {"name": "mlflow-run", "optional": True},
            {"name": "model-version", "optional": True},
            {"name": "artifacts", "description": "the URI of the run's artifacts", "optional": True},
            {"name": "checkpoint", "description": "the best checkpoint, of Determined", "optional": True},
        ],
        "extensions": [_TRAINING],
    },
    {
        "name": "predictor",
        "kind": "predictor",
        "description": "Serves a model as an application, and waits until it is ready. A new model replaces the old one.",
        "image": "ghcr.io/fuseml/predictor:v1",
        "inputs": [
            _OPTIONAL_CODESET,
            _SERVED_MODEL,
            _optional(
                "app-name",
                "the name of the application; by default PROJECT-CODESET-WORKFLOW, with the name of the model in a run without code",
            ),
            _optional("runtime", "the environment of the model: the output `image` of a builder", takes=["image"]),
            _optional("public", "whether every caller gets predictions", type="boolean"),
            _optional("follow", "whether the application follows the model's address to later versions", type="boolean"),
            _rows("batch-size", "rows of concurrent requests that are predicted together"),
            _optional("batch-wait", "milliseconds that a request waits for others", type="integer", minimum=0, maximum=60000),
            _optional(
                "format", "the format of the model's files; by default by their names", values=("auto", *get_args(model_servers.Format))
            ),
            _optional("predictor", "the model server; by default by the format", values=(model_servers.AUTO, *model_servers.SERVERS)),
            _optional("runtime-version", "the version of the model server"),
            _optional("resources", 'compute resources of the model server, in JSON or YAML: {"limits": {"memory": "2Gi"}}'),
            _optional("verbose", "whether the step logs the registration", type="boolean"),
            _optional("timeout", "seconds until the application must be ready", type="number", minimum=0),
        ],
        "outputs": [
            {"name": "prediction-url", "description": "the URL of the prediction service"},
            {"name": "model-version", "optional": True},
            {"name": "model-digest", "optional": True},
        ],
        "extensions": [_TRACKING, _SERVING],
    },
    {
        "name": "scorer",
        "kind": "transformer",
        "description": "Predicts every row of a dataset with a model, and writes the rows with their predictions.",
        "image": "ghcr.io/fuseml/scorer:v1",
        "inputs": [
            _OPTIONAL_CODESET,
            _MODEL,
            {"name": "data", "description": "the dataset: a path of the codeset, file://, s3:// or http(s)://"},
            {"name": "output", "description": "the place of the result: a path of the codeset, file:// or s3://"},
            _optional("data-format", "the format of the dataset", values=_FORMATS),
            _optional("output-format", "the format of the result", values=_FORMATS),
            _optional("columns", "columns of the dataset in the result: all, none, or names separated by commas"),
            _optional("prediction", "the name of the prediction's column"),
            _optional("on-error", "the reaction to an invalid row", values=("stop", "skip")),
            _optional("errors", "the place of the list of skipped rows"),
            _rows("max-errors", "the most rows to skip"),
            _rows("chunk-rows", "rows that are predicted at once"),
            _optional("name", "the name of the result as an artifact"),
        ],
        "outputs": [
            {"name": "dataset", "type": "dataset", "description": "the address of the result"},
            {"name": "uri", "description": "its place"},
            {"name": "rows", "type": "integer"},
            {"name": "digest"},
            {"name": "skipped", "type": "integer", "optional": True},
        ],
        "extensions": [_TRACKING],
    },
    {
        "name": "evaluator",
        "kind": "validator",
        "description": "Measures a model on labelled rows, and decides by thresholds, or by the served model, whether it passes.",
        "image": "ghcr.io/fuseml/evaluator:v1",
        "inputs": [
            _OPTIONAL_CODESET,
            _MODEL,
            {"name": "data", "description": "labelled rows: a path of the codeset or an address"},
            {"name": "label", "description": "the column with the true values"},
            _optional("thresholds", "conditions on metrics: accuracy >= 0.9, log_loss < 0.3"),
            _optional("compare-with", "the application whose served model the new one is compared with"),
            _optional("data-format", "the format of the rows", values=_FORMATS),
            _optional("task", "by default by the thresholds, else by the labels", values=("classification", "regression")),
            _optional("positive", "the positive class of two"),
            _optional("compare-metrics", "the compared metrics, separated by commas"),
            _optional("tolerance", "by how much a metric may be worse than that of the served model", type="number", minimum=0),
            _optional("on-failure", "fail, or ask by the approval of a later step", values=("fail", "ask")),
            _rows("chunk-rows", "rows that are predicted at once"),
            _optional("mlflow-experiment", "the experiment of MLflow"),
        ],
        "outputs": [
            {"name": "passed", "type": "boolean"},
            {"name": "summary"},
            {"name": "metrics", "description": "a JSON object", "optional": True},
            {"name": "compared-with", "optional": True},
        ],
        "extensions": [_TRACKING, {"name": "served", "product": "fuseml", "service_resource": "fuseml-serving"}],
    },
    {
        "name": "ranker",
        "kind": "custom",
        "description": "Compares the combinations of a matrix, and outputs the outputs of the best one. A matrix with `best` adds it by itself.",
        "image": "ghcr.io/fuseml/ranker:v1",
        "inputs": [
            {"name": "metric", "description": "a metric in the outputs `metrics` of the combinations"},
            {"name": "goal", "values": ["min", "max"]},
            {"name": "combinations", "description": "JSON: name -> values by name"},
            {"name": "outputs", "description": "JSON: the names of their outputs; FUSEML_OUTPUT_C_O in `env` is number O of combination C"},
        ],
        "outputs": [{"name": "best", "description": "the name of the best combination"}],
    },
    {
        "name": "converter",
        "kind": "custom",
        "description": "Copies an artifact to another store. A run adds it where a step reads from other stores than the artifact's.",
        "image": "ghcr.io/fuseml/converter:v1",
        "inputs": [{"name": "artifact", "description": "the address of the artifact"}],
        "outputs": [
            {"name": "copy", "description": "the address of the copy in its store"},
            {"name": "copy-uri", "description": "its place"},
        ],
    },
)

_TOOLS: Mapping[str, tuple[str, str]] = {
    "mlflow-builder": ("builder", "Builds the environment of an MLflow project, and registers its trainer and predictor if asked."),
    "mlflow-trainer": (
        "trainer",
        "Trains with MLflow in the environment that the builder has built, and outputs the model that was logged.",
    ),
    "kserve-predictor": (
        "predictor",
        "Serves a model by KServe's Open Inference Protocol (V2), as an application of the serving that the registry has for "
        "prediction-serving, and waits until it is ready.",
    ),
    "seldon-core-predictor": ("predictor", "Serves a model by Seldon Core, where the selector prediction-serving resolves to it."),
    "ovms-predictor": ("predictor", "Serves a model by OpenVINO Model Server (`predictor: openvino`), through KServe."),
}
"""Second name -> the step, and its description."""


@functools.cache
def by_name() -> Mapping[str, Runnable]:
    """The built-in runnables by name."""
    steps = {str(item["name"]): item for item in _DOCUMENTS}
    tools = ({**steps[step], "name": name, "description": description} for name, (step, description) in _TOOLS.items())
    return {str(item["name"]): Runnable.model_validate({"version": __version__, **item}) for item in (*_DOCUMENTS, *tools)}


def is_reserved(name: str) -> bool:
    """Whether no project may register a runnable of the name."""
    return name in by_name() and name not in _TOOLS


def address(runnable: Runnable) -> str:
    """The address of a built-in runnable."""
    return str(Address("runnable", PROJECT, runnable.name, runnable.version))


def find(address: str) -> Runnable | None:
    """The built-in runnable at the address; None for any other one."""
    return next(
        (runnable for runnable in by_name().values() if str(Address("runnable", PROJECT, runnable.name, runnable.version)) == address), None
    )
