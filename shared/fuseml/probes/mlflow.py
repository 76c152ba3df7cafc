"""MLflow's tracking server, recognised by its REST API: `/version` exists on its model servers, too."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain.registry import extension
from fuseml.probes import draft, targets, tool
from fuseml.probes.targets import Answer, Target

_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_NAMES = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
# Includes deleted experiments: without any experiment the response is an empty object, which identifies no tool.
_SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1&view_type=ALL"
_ARTIFACTS = "/api/2.0/mlflow-artifacts"


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
    return draft.record("mlflow", draft.version(target.get("/version", headers).text), "MLflow experiment tracking", *services)


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
