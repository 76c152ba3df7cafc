"""MLflow's tracking server, recognised by its REST API: `/version` exists on its model servers, too."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain.registry import extension
from fuseml.probes import draft, s3, targets, tool
from fuseml.probes.targets import Answer, Target

_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_NAMES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
# Includes deleted experiments: without any experiment the response is an empty object, which identifies no tool.
_SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1&view_type=ALL"
_ARTIFACTS = "/api/2.0/mlflow-artifacts"
_AMAZON = ".amazonaws.com"


def _detect(target: Target) -> extension.Extension | None:
    answer = target.get(_SEARCH)
    closed = answer.status == 401 and "mlflow" in answer.headers.get("www-authenticate", "").lower()
    if not (closed or _wrong_host(answer) or "experiments" in answer.fields):
        return None
    headers = _headers(target.credentials)
    services = [
        draft.service(
            target,
            "mlflow-tracking",
            "mlflow-tracking",
            "experiment-tracking",
            variables=["MLFLOW_TRACKING_URI"],
            auth_required=closed,
            keys=_KEYS,
        )
    ]
    # Without the artifacts proxy the status is 503, and steps need a record of the store itself.
    if target.get(f"{_ARTIFACTS}/artifacts", headers).status == 200:
        store = draft.service(
            target,
            "mlflow-store",
            "mlflow-artifacts",
            "model-store",
            path=_ARTIFACTS,
            variables=["MLFLOW_ARTIFACTS_URL"],
            auth_required=closed,
            keys=_KEYS,
        )
        services.append(store)
    if _in_s3(target.get(_SEARCH, headers) if closed and headers else answer):
        services.append(_s3(target.store))
    return draft.record("mlflow", draft.version(target.get("/version", headers).text), "MLflow experiment tracking", *services)


def _in_s3(answer: Answer) -> bool:
    """Whether clients of this server read and write artifacts in S3 themselves."""
    experiments = answer.fields.get("experiments")
    newest = experiments[0] if isinstance(experiments, list) and experiments else None
    return isinstance(newest, dict) and str(newest.get("artifact_location", "")).startswith("s3://")


def _s3(store: Target | None) -> extension.Service:
    """The S3 server of the artifacts. MLflow does not name it: its clients have the address in their environment, unless it is Amazon's."""
    store = store or Target(f"https://s3.us-east-1{_AMAZON}")
    variables = [] if store.base.endswith(_AMAZON) else ["MLFLOW_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
    return draft.service(store, "mlflow-s3", "s3", "model-store", variables=variables, auth_required=True, keys=s3.KEYS)


def _check(target: Target) -> str | None:
    headers = _headers(target.credentials)
    if not headers:
        raise tool.no_keys(_NAMES)
    answer = target.get(_SEARCH, headers)
    if answer.status == 200:
        return None
    if _wrong_host(answer):
        return f"MLflow rejects the host name of {target.origin}; start it with --allowed-hosts that includes it"
    if answer.status in (401, 403):
        return tool.refusal("MLflow", target, _NAMES)
    raise tool.unknown(target, answer)


def _wrong_host(answer: Answer) -> bool:
    return answer.status == 403 and "Invalid Host header" in answer.text


def _headers(credentials: Mapping[str, str]) -> dict[str, str]:
    """The authentication of MLflow's client: user name and password take precedence over a token."""
    username, password, token = (credentials.get(key) for key in _KEYS)
    if username and password:
        return targets.basic(username, password)
    return {"Authorization": f"Bearer {token}"} if token else {}


TOOL = tool.Tool(detect=_detect, check=_check, resources=frozenset({"mlflow-tracking", "mlflow-artifacts"}))
