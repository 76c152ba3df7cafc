"""The trainer's client for the REST API of MLflow's tracking server and model registry.

Importing mlflow costs seconds, these calls milliseconds. Undocumented: an empty result is `{}`, and a conflict is a 400 with
`RESOURCE_ALREADY_EXISTS` (infra/platform-facts.md 1.6); a version of `log_model(registered_model_name=...)` is found by its run, although
its event names none (infra/platform-facts.md 1.3).
"""

from __future__ import annotations

import base64
import re
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.steps import sdk

_API = "/api/2.0/mlflow/"
DIGEST_TAG = "fuseml.digest"
"""The tag of a model version with the digest of its files (`model_digest`)."""
_MOVING = re.compile(r"runs:/([^/]+)/(.+)|models:/([^/@]+)(?:@(.+)|/(?!\d+\Z)([^/@]+))")
_BATCH = 100  # limit of parameters in one log-batch call


@dataclass(frozen=True)
class Run:
    """A run of the server. A metric that is not finite is MLflow's text for it."""

    status: str
    artifact_uri: str
    metrics: Mapping[str, object]


@dataclass(frozen=True)
class Version:
    """A version of a registered model; MLflow's version numbers are text."""

    name: str
    version: str

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
        experiment = _mapping(self._call("GET", "experiments/get-by-name", experiment_name=name).get("experiment"))
        if experiment.get("lifecycle_stage") == "deleted":
            raise sdk.StepError(
                f"the MLflow experiment '{name}' is deleted: restore it, or name another in the step input 'mlflow-experiment'"
            )
        return str(experiment["experiment_id"])

    def start_run(self, experiment_id: str, name: str, tags: Mapping[str, str], parameters: Mapping[str, str]) -> str:
        """Create a RUNNING run with these tags and parameters. Returns its id. Empty tags are left out."""
        listed = [{"key": key, "value": value} for key, value in tags.items() if value]
        payload = {"experiment_id": experiment_id, "run_name": name, "start_time": _now(), "tags": listed}
        run = _mapping(_mapping(self._call("POST", "runs/create", payload).get("run")).get("info"))
        run_id = str(run["run_id"])
        items = [{"key": key, "value": value} for key, value in parameters.items()]
        for start in range(0, len(items), _BATCH):
            self._call("POST", "runs/log-batch", {"run_id": run_id, "params": items[start : start + _BATCH]})
        return run_id

    def run(self, run_id: str) -> Run:
        """The current state of the run."""
        run = _mapping(self._call("GET", "runs/get", run_id=run_id).get("run"))
        info, data = _mapping(run.get("info")), _mapping(run.get("data"))
        metrics = {str(item["key"]): item.get("value", 0.0) for item in _list(data.get("metrics"))}
        return Run(str(info.get("status", "")), str(info.get("artifact_uri", "")), metrics)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Log metrics of the run."""
        items = [{"key": key, "value": value, "timestamp": _now(), "step": 0} for key, value in metrics.items()]
        self._call("POST", "runs/log-batch", {"run_id": run_id, "metrics": items})

    def end_run(self, run_id: str, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self._call("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": _now()})

    def version_of(self, run_id: str) -> Version | None:
        """The newest version of a registered model from the run, if any."""
        versions = _list(self._call("GET", "model-versions/search", filter=f"run_id = '{run_id}'", max_results="100").get("model_versions"))
        newest = max(versions, key=_created, default=None)
        return Version(str(newest["name"]), str(newest["version"])) if newest else None

    def logged_model(self, experiment_id: str, run_id: str, name: str) -> str | None:
        """The id of an unregistered model of the run: the one called `name`, else the newest, if any."""
        payload = {"experiment_ids": [experiment_id], "filter": f"source_run_id = '{run_id}'", "max_results": 50}
        models = [_mapping(item.get("info")) for item in _list(self._call("POST", "logged-models/search", payload).get("models"))]
        newest = max(models, key=lambda info: (info.get("name") == name, _created(info)), default=None)
        return str(newest["model_id"]) if newest else None

    def model_of_run(self, run_id: str, name: str) -> str | None:
        """The address of the newest model that the run logged as `name`; None without one."""
        info = _mapping(_mapping(self._call("GET", "runs/get", run_id=run_id).get("run")).get("info"))
        payload = {"experiment_ids": [str(info.get("experiment_id"))], "filter": f"source_run_id = '{run_id}'", "max_results": 50}
        models = [_mapping(item.get("info")) for item in _list(self._call("POST", "logged-models/search", payload).get("models"))]
        newest = max((info for info in models if info.get("name") == name), key=_created, default=None)
        return f"models:/{newest['model_id']}" if newest else None

    def aliased(self, name: str, alias: str) -> Version:
        """The version that an alias points at."""
        found = _mapping(self._call("GET", "registered-models/alias", name=name, alias=alias).get("model_version"))
        return Version(name, str(found["version"]))

    def latest(self, name: str, stage: str = "") -> Version:
        """The newest version of a registered model, or of those in a stage. Raises StepError without one."""
        payload = {"name": name, **({"stages": [stage]} if stage else {})}
        listed = _list(self._call("POST", "registered-models/get-latest-versions", payload).get("model_versions"))
        newest = max((int(str(item["version"])) for item in listed), default=None)
        if newest is None:
            raise sdk.StepError(f"the registered model '{name}' has no version{f' in the stage {stage!r}' if stage else ''}")
        return Version(name, str(newest))

    def has_artifact(self, run_id: str, path: str) -> bool:
        """Whether the run has a file or folder at `path` among its artifacts."""
        parent = path.rstrip("/").rpartition("/")[0]
        listed = self._call("GET", "artifacts/list", run_id=run_id, **({"path": parent} if parent else {}))
        return any(item.get("path") == path.rstrip("/") for item in _list(listed.get("files")))

    def tags_of(self, version: Version) -> dict[str, str]:
        """The tags of a registered version."""
        found = _mapping(self._call("GET", "model-versions/get", name=version.name, version=version.version).get("model_version"))
        return {str(tag.get("key")): str(tag.get("value", "")) for tag in _list(found.get("tags"))}

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


def digest_of(uri: str, environment: Mapping[str, str]) -> str:
    """The recorded digest of a registered version `models:/<name>/<version>`; empty if there is none, or no server to ask."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
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


def _code(error: sdk.HttpError) -> str:
    return str(_mapping(error.answer).get("error_code", ""))


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, object]]:
    return [_mapping(item) for item in value] if isinstance(value, list) else []


def _created(item: Mapping[str, object]) -> int:
    """Milliseconds. MLflow's JSON encodes 64-bit numbers as text in some answers and as numbers in others."""
    return int(str(item.get("creation_timestamp") or item.get("creation_timestamp_ms") or 0))


def _now() -> int:
    return int(time.time() * 1000)
