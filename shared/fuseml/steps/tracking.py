"""The trainer's client for the REST API of MLflow's tracking server and model registry.

Importing mlflow costs seconds, these calls milliseconds. Undocumented: an empty result is `{}`, and a conflict is a 400 with
`RESOURCE_ALREADY_EXISTS` (infra/platform-facts.md 1.6); a version of `log_model(registered_model_name=...)` is found by its run, although
its event names none (infra/platform-facts.md 1.3).
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.steps import sdk

_API = "/api/2.0/mlflow/"
_SERVED = "/api/2.0/mlflow-artifacts/artifacts"
DIGEST_TAG = "fuseml.digest"
"""The tag of a model version with the digest of its files (`model_digest`)."""
_MOVING = re.compile(r"runs:/([^/]+)/(.+)|models:/([^/@]+)(?:@(.+)|/(?!\d+\Z)([^/@]+))")
_BATCH = 100  # limit of parameters in one log-batch call


TRAINING_TAG = "fuseml.training"
"""The tag of the runs and models of one training: the id of the run that the trainer started."""
_PAGE = 1000
_PAGE_OF_MODELS = 50  # limit of logged-models/search
_MOST_PAGES = 100


@dataclass(frozen=True)
class Run:
    """A run of the server. A metric that is not finite is MLflow's text for it. `history` has the models that MLflow 2 logged, by path."""

    id: str
    experiment_id: str
    status: str
    artifact_uri: str
    metrics: Mapping[str, object]
    parameters: Mapping[str, str] = field(default_factory=dict)
    history: Mapping[str, int] = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, float]:
        """The metrics as numbers."""
        return {name: float(str(value)) for name, value in self.metrics.items()}


@dataclass(frozen=True)
class Version:
    """A version of a registered model; MLflow's version numbers are text."""

    name: str
    version: str
    run_id: str = field(default="", compare=False)
    source: str = field(default="", compare=False)

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


class Tracking:
    """A connection to one server; `environment` holds MLflow's own client variables. Methods raise HttpError with the server's message."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.uri = environment.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        if not self.uri.startswith(("http://", "https://")):
            raise sdk.StepError(
                "MLFLOW_TRACKING_URI must be the http(s) URL of an MLflow server: "
                "give the workflow step an extension with the product mlflow and the resource mlflow-tracking"
            )
        self._token = environment.get("MLFLOW_TRACKING_TOKEN") or None
        self._headers: dict[str, str] = {}
        user, password = environment.get("MLFLOW_TRACKING_USERNAME", ""), environment.get("MLFLOW_TRACKING_PASSWORD", "")
        if user and not self._token:
            self._headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self._verify = _verification(environment)

    def _call(self, method: str, path: str, payload: object = None, **query: str) -> dict[str, object]:
        url = self.uri + _API + path + ("?" + urllib.parse.urlencode(query) if query else "")
        answer = sdk.http(method, url, payload, token=self._token, headers=self._headers, verify=self._verify)
        if not isinstance(answer, dict):
            raise sdk.StepError(f"{sdk.redact(self.uri)} does not answer like an MLflow server; check MLFLOW_TRACKING_URI")
        return answer

    def experiment(self, name: str) -> str:
        """The id of the experiment, which is created if necessary."""
        try:
            return self._experiment(name)
        except sdk.HttpError as error:
            if _code(error) != "RESOURCE_DOES_NOT_EXIST":
                raise
        try:
            return str(self._call("POST", "experiments/create", {"name": name})["experiment_id"])
        except sdk.HttpError as error:
            if _code(error) != "RESOURCE_ALREADY_EXISTS":  # another run of the codeset created it meanwhile
                raise
        return self._experiment(name)

    def _experiment(self, name: str) -> str:
        experiment = mapping(self._call("GET", "experiments/get-by-name", experiment_name=name).get("experiment"))
        if experiment.get("lifecycle_stage") == "deleted":
            raise sdk.StepError(
                f"the MLflow experiment '{name}' is deleted: restore it, or name another in the step input 'mlflow-experiment'"
            )
        return str(experiment["experiment_id"])

    def start_run(self, experiment_id: str, name: str, tags: Mapping[str, str], parameters: Mapping[str, str]) -> str:
        """Create a RUNNING run with these tags and parameters. Returns its id. Empty tags are left out."""
        items = [{"key": key, "value": value} for key, value in tags.items() if value]
        payload = {"experiment_id": experiment_id, "run_name": name, "start_time": _now(), "tags": items}
        run = mapping(mapping(self._call("POST", "runs/create", payload).get("run")).get("info"))
        run_id = str(run["run_id"])
        self.log_parameters(run_id, parameters)
        return run_id

    def tagged_run(self, experiment_id: str, tag: str, value: str) -> str:
        """The id of a run of the experiment with the tag; empty without one."""
        search = {"experiment_ids": [experiment_id], "filter": f"tags.`{tag}` = '{value}'", "max_results": 1}
        found = listed(self._call("POST", "runs/search", search).get("runs"))
        return _run(found[0]).id if found else ""

    def log_parameters(self, run_id: str, parameters: Mapping[str, str]) -> None:
        """Log parameters. MLflow refuses a change of one that is logged already."""
        items = [{"key": key, "value": value} for key, value in parameters.items()]
        for start in range(0, len(items), _BATCH):
            self._call("POST", "runs/log-batch", {"run_id": run_id, "params": items[start : start + _BATCH]})

    def run(self, run_id: str) -> Run:
        """The current state of the run."""
        return _run(mapping(self._call("GET", "runs/get", run_id=run_id).get("run")))

    def runs_of(self, run: Run) -> list[Run]:
        """The run and those that its training started, in any experiment: they have its tag, or a parent among them (`mlflow.run`)."""
        experiments = [str(item["experiment_id"]) for item in self._pages("experiments/search", {}, "experiments")]
        found = {run.id: run}
        filters = [f"tags.`{TRAINING_TAG}` = '{run.id}'"]
        waiting = [run.id]
        while filters or waiting:
            filters += [f"tags.`mlflow.parentRunId` = '{run_id}'" for run_id in waiting]
            waiting = []
            for start in range(0, len(experiments), _PAGE):
                search = {"experiment_ids": experiments[start : start + _PAGE], "filter": filters[0]}
                for item in self._pages("runs/search", search, "runs"):
                    other = _run(item)
                    if other.id not in found:
                        found[other.id] = other
                        waiting.append(other.id)
            filters = filters[1:]
        return list(found.values())

    def _pages(self, path: str, search: Mapping[str, object], key: str, size: int = _PAGE) -> Iterator[dict[str, object]]:
        token: object = None
        for _ in range(_MOST_PAGES):
            page = self._call("POST", path, {**search, "max_results": size, **({"page_token": token} if token else {})})
            yield from listed(page.get(key))
            token = page.get("next_page_token")
            if not token:
                return
        raise sdk.StepError(f"{sdk.redact(self.uri)} has more than {size * _MOST_PAGES} {key} to search")

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics of the run."""
        items = [{"key": key, "value": value, "timestamp": _now(), "step": 0} for key, value in metrics.items()]
        self._call("POST", "runs/log-batch", {"run_id": run_id, "metrics": items})

    def end_run(self, run_id: str, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self._call("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": _now()})

    def versions(self, run_ids: Sequence[str]) -> list[Version]:
        """The versions of registered models from the runs."""
        found: list[Version] = []
        for start in range(0, len(run_ids), _BATCH):
            query = {"filter": f"run_id IN ({_quoted(run_ids[start : start + _BATCH])})", "max_results": str(_PAGE)}
            for item in listed(self._call("GET", "model-versions/search", **query).get("model_versions")):
                found.append(Version(str(item["name"]), str(item["version"]), str(item.get("run_id", "")), str(item.get("source", ""))))
        return found

    def logged_models(self, runs: Iterable[Run]) -> list[dict[str, object]]:
        """The logged models of MLflow 3 from the runs, as the server describes them; none on a server of MLflow 2."""
        by_experiment: dict[str, list[str]] = {}
        for run in runs:
            by_experiment.setdefault(run.experiment_id, []).append(run.id)
        found: list[dict[str, object]] = []
        for experiment, ids in by_experiment.items():
            for start in range(0, len(ids), _BATCH):
                search = {"experiment_ids": [experiment], "filter": f"source_run_id IN ({_quoted(ids[start : start + _BATCH])})"}
                try:
                    found += self._pages("logged-models/search", search, "models", _PAGE_OF_MODELS)
                except sdk.HttpError as error:
                    if error.status != 404:
                        raise
                    return []
        return found

    def model_of_run(self, run_id: str, name: str) -> str | None:
        """The address of the newest model that the run logged as `name`; None without one."""
        models = [mapping(item.get("info")) for item in self.logged_models([self.run(run_id)])]
        own = [info for info in models if info.get("name") == name]
        # MLflow's JSON encodes 64-bit numbers as text.
        newest = max(own, key=lambda info: int(str(info.get("creation_timestamp_ms") or 0)), default=None)
        return f"models:/{newest['model_id']}" if newest else None

    def aliased(self, name: str, alias: str) -> Version:
        """The version that an alias points at."""
        found = mapping(self._call("GET", "registered-models/alias", name=name, alias=alias).get("model_version"))
        return Version(name, str(found["version"]))

    def latest(self, name: str, stage: str = "") -> Version:
        """The newest version of a registered model, or of those in a stage. Raises StepError without one."""
        payload = {"name": name, **({"stages": [stage]} if stage else {})}
        versions = listed(self._call("POST", "registered-models/get-latest-versions", payload).get("model_versions"))
        newest = max((int(str(item["version"])) for item in versions), default=None)
        if newest is None:
            raise sdk.StepError(f"the registered model '{name}' has no version{f' in the stage {stage!r}' if stage else ''}")
        return Version(name, str(newest))

    def has_artifact(self, run_id: str, path: str) -> bool:
        """Whether the run has a file or folder at `path` among its artifacts."""
        parent = path.rstrip("/").rpartition("/")[0]
        files = self._call("GET", "artifacts/list", run_id=run_id, **({"path": parent} if parent else {}))
        return any(item.get("path") == path.rstrip("/") for item in listed(files.get("files")))

    def tags_of(self, version: Version) -> dict[str, str]:
        """The tags of a registered version."""
        found = mapping(self._call("GET", "model-versions/get", name=version.name, version=version.version).get("model_version"))
        return {str(tag.get("key")): str(tag.get("value", "")) for tag in listed(found.get("tags"))}

    def download_uri(self, version: Version) -> str:
        """The address of the folder with the files of a registered version."""
        return str(self._call("GET", "model-versions/get-download-uri", name=version.name, version=version.version)["artifact_uri"])

    def artifacts_of_model(self, model_id: str) -> str:
        """The address of the folder with the files of a logged model; empty if the server states none."""
        info = mapping(mapping(self._call("GET", f"logged-models/{model_id}").get("model")).get("info"))
        return str(info.get("artifact_uri") or "")

    def served_files(self, folder: str) -> dict[str, bool]:
        """The names in a folder of the artifacts that the server serves itself -> whether it is a folder."""
        url = self.uri + _SERVED + "?" + urllib.parse.urlencode({"path": folder})
        found = mapping(sdk.http("GET", url, token=self._token, headers=self._headers, verify=self._verify))
        return {str(item.get("path", "")): bool(item.get("is_dir")) for item in listed(found.get("files"))}

    def served_file(self, path: str) -> Iterator[bytes]:
        """The contents of a file among the artifacts that the server serves itself, block by block."""
        url = f"{self.uri}{_SERVED}/{urllib.parse.quote(path)}"
        return sdk.blocks(url, token=self._token, headers=self._headers, verify=self._verify)

    def tag_version(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags on a registered version; empty ones are left out."""
        for key, value in tags.items():
            if value:
                self._call("POST", "model-versions/set-tag", {"name": version.name, "version": version.version, "key": key, "value": value})


def exact(uri: str, environment: Mapping[str, str]) -> str:
    """The address of the version, or of the logged model, that a model URI names at this moment.

    Aliases, stages and `latest` (`models:/<name>@<alias>`, `models:/<name>/<stage>`) and models of a run (`runs:/<id>/<name>`) are resolved;
    any other URI, and a run that logged no such model, gives the URI itself. Raises HttpError, and StepError where nothing is registered.
    """
    moving = _MOVING.fullmatch(uri)
    if moving is None or not environment.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        return uri
    server = Tracking(environment)
    run, path, name, alias, stage = moving.groups()
    if run:
        return server.model_of_run(run, path) or uri
    version = server.aliased(name, alias) if alias else server.latest(name, "" if stage.lower() == "latest" else stage)
    return version.uri


def location(uri: str, environment: Mapping[str, str]) -> str:
    """The address of the files of a version `models:/<name>/<version>`, or of a logged model `models:/<id>`, in their store; any other URI as it is.

    Raises HttpError.
    """
    named = re.fullmatch(r"models:/([^/@]+)(?:/(\d+))?", uri)
    if named is None or not environment.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        return uri
    server = Tracking(environment)
    if named[2]:
        return server.download_uri(Version(named[1], named[2]))
    return server.artifacts_of_model(named[1]) or uri


def digest_of(uri: str, environment: Mapping[str, str]) -> str:
    """The recorded digest of a registered version `models:/<name>/<version>`; empty if there is none, or no server to ask."""
    name, _, version = uri[len("models:/") :].rpartition("/")
    if not (uri.startswith("models:/") and name and version) or not environment.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        return ""
    return Tracking(environment).tags_of(Version(name, version)).get(DIGEST_TAG, "")


def _verification(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """The context for MLflow's TLS variables: without verification, or with another certificate authority; None for the default."""
    if environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    authority = environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH", "")
    try:
        return ssl.create_default_context(cafile=authority) if authority else None
    except OSError as error:
        raise sdk.StepError(
            f"MLFLOW_TRACKING_SERVER_CERT_PATH: cannot read certificates from {authority}: {error.strerror or error}"
        ) from error


def _run(item: Mapping[str, object]) -> Run:
    info, data = mapping(item.get("info")), mapping(item.get("data"))
    metrics = {str(metric["key"]): metric.get("value", 0.0) for metric in listed(data.get("metrics"))}
    tags = {str(tag.get("key")): str(tag.get("value", "")) for tag in listed(data.get("tags"))}
    return Run(
        str(info.get("run_id", "")),
        str(info.get("experiment_id", "")),
        str(info.get("status", "")),
        str(info.get("artifact_uri", "")),
        metrics,
        {str(item.get("key")): str(item.get("value", "")) for item in listed(data.get("params"))},
        _history(tags.get("mlflow.log-model.history", "[]")),
    )


def _history(text: str) -> dict[str, int]:
    """The paths of the models in MLflow 2's record of a run -> their order. A repeated path is one model, which was replaced."""
    try:
        entries = json.loads(text)
    except ValueError:
        return {}
    return {str(entry["artifact_path"]): order for order, entry in enumerate(listed(entries)) if entry.get("artifact_path")}


def _quoted(ids: Sequence[str]) -> str:
    # A tuple of one needs no comma here, and ids of MLflow hold no quotes.
    return ", ".join(f"'{run_id}'" for run_id in ids)


def _code(error: sdk.HttpError) -> str:
    return str(mapping(error.answer).get("error_code", ""))


def mapping(value: object) -> dict[str, object]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> list[dict[str, object]]:
    """The objects in the value if it is a JSON list, else none."""
    return [mapping(item) for item in value] if isinstance(value, list) else []


def _now() -> int:
    return int(time.time() * 1000)
