"""Reads models and runs from an MLflow tracking server by its REST API (importing `mlflow` would cost seconds)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

from fuseml.domain import errors

_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class ModelVersion:
    name: str
    version: str
    source: str | None
    run_id: str | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run of the tracking server (not one of ours)."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str]


class Tracking:
    """A tracking server at `url`."""

    def __init__(self, url: str) -> None:
        self._api = url.rstrip("/") + "/api/2.0/mlflow"
        self._pool = urllib3.PoolManager(retries=False)

    def model_version(self, name: str, version: str) -> ModelVersion:
        """Raises NotFoundError, TemporaryError."""
        found = self._call("GET", "/model-versions/get", {"name": name, "version": version})["model_version"]
        return ModelVersion(name, version, found.get("source"), found.get("run_id") or None, _pairs(found.get("tags")))

    def run(self, run_id: str) -> TrackedRun:
        """Raises NotFoundError, TemporaryError."""
        found = self._call("GET", "/runs/get", {"run_id": run_id})["run"]
        data = found.get("data", {})
        metrics = {item["key"]: float(item["value"]) for item in data.get("metrics", [])}
        return TrackedRun(run_id, found["info"]["status"], _pairs(data.get("tags")), metrics, _pairs(data.get("params")))

    def ensure_webhook(self, name: str, url: str, secret: str) -> None:
        """Make the server deliver its registry events to `url`, signed with `secret`; replaces a webhook of that name."""
        for webhook in self._call("GET", "/webhooks", {}).get("webhooks", []):
            if webhook["name"] == name:
                self._call("DELETE", f"/webhooks/{webhook['webhook_id']}", {})
        wanted = [
            ("REGISTERED_MODEL", "CREATED"),
            ("MODEL_VERSION", "CREATED"),
            ("MODEL_VERSION_TAG", "SET"),
            ("MODEL_VERSION_TAG", "DELETED"),
        ]
        wanted += [("MODEL_VERSION_ALIAS", "CREATED"), ("MODEL_VERSION_ALIAS", "DELETED")]
        listed = [{"entity": entity, "action": action} for entity, action in wanted]
        self._call("POST", "/webhooks", {"name": name, "url": url, "events": listed, "secret": secret, "status": "ACTIVE"})

    def _call(self, method: str, path: str, data: Mapping[str, object]) -> dict[str, Any]:
        try:
            if method == "POST":
                response = self._pool.request(method, self._api + path, json=dict(data), timeout=_TIMEOUT)
            else:
                response = self._pool.request(
                    method, self._api + path, fields={key: str(value) for key, value in data.items()}, timeout=_TIMEOUT
                )
        except urllib3.exceptions.HTTPError as error:
            raise errors.TemporaryError(f"the tracking server at {self._api} does not answer ({type(error).__name__})") from error
        if response.status == 404:
            raise errors.NotFoundError(f"the tracking server knows no {path.rsplit('/', 1)[0].strip('/')} like {dict(data)}")
        if response.status >= 500 or response.status == 429:
            raise errors.TemporaryError(f"the tracking server answered {response.status} to {path}")
        if response.status >= 400:
            raise errors.PermanentError(f"the tracking server refused {path} with {response.status}")
        try:
            answer = response.json() if response.data else {}
        except json.JSONDecodeError as error:
            raise errors.PermanentError(f"what answers at {self._api} is not an MLflow server") from error
        return answer if isinstance(answer, dict) else {}


def _pairs(items: list[dict[str, str]] | None) -> dict[str, str]:
    return {item["key"]: item.get("value", "") for item in items or []}
