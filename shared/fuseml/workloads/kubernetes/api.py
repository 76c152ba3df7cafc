"""The API of a Kubernetes cluster, in one namespace, with the account of the record.

Variables: KUBERNETES_TOKEN (the token of a service account), KUBERNETES_CA (certificates that the server's is checked with, PEM),
KUBERNETES_NAMESPACE (default `fuseml-training`).
"""

from __future__ import annotations

import base64
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from typing import Any

from fuseml.steps import sdk

NAMESPACE = "fuseml-training"
Object = dict[str, Any]
PART = 16 << 20
"""Bytes of a log in one answer."""
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


class Api:
    """Calls raise HttpError with the message of the API server."""

    def __init__(self, url: str, variables: Mapping[str, str]) -> None:
        self._url = url.rstrip("/")
        self.namespace = variables.get("KUBERNETES_NAMESPACE") or NAMESPACE
        self._token = variables.get("KUBERNETES_TOKEN") or None
        authorities = variables.get("KUBERNETES_CA", "")
        try:
            self._verify = ssl.create_default_context(cadata=authorities) if authorities else None
        except (ssl.SSLError, ValueError) as error:
            raise sdk.StepError("KUBERNETES_CA of the record holds no certificates in the form PEM") from error

    def create(self, path: str, document: Object) -> Object | None:
        """The created object; None if one of its name exists."""
        try:
            return self._call("POST", path, document)
        except sdk.HttpError as error:
            if error.status == 409:
                return None
            if error.status in (400, 403, 422):
                raise sdk.StepError(str(error)) from error
            raise

    def get(self, path: str, name: str) -> Object | None:
        """The object; None without one."""
        try:
            return self._call("GET", f"{path}/{name}")
        except sdk.HttpError as error:
            if error.status == 404 and isinstance(error.answer, dict) and error.answer.get("reason") == "NotFound":
                return None
            raise

    def list(self, path: str, labels: Mapping[str, str]) -> list[Object]:
        """The objects with these labels."""
        query = urllib.parse.urlencode({"labelSelector": ",".join(f"{name}={value}" for name, value in labels.items())})
        found = self._call("GET", f"{path}?{query}").get("items")
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    def delete(self, path: str, name: str) -> None:
        """Delete the object, and in the background what it owns. Changes nothing without one."""
        try:
            self._call("DELETE", f"{path}/{name}", {"propagationPolicy": "Background"})
        except sdk.HttpError as error:
            if error.status != 404:
                raise

    def log(self, pod: str, container: str, since: str) -> bytes | None:
        """The log of a container from the time on, as far as `PART` bytes hold it, each line with its own time; None while there is none."""
        query = {"container": container, "timestamps": "true", "limitBytes": str(PART), **({"sinceTime": since} if since else {})}
        address = f"{self._url}/api/v1/namespaces/{self.namespace}/pods/{pod}/log?{urllib.parse.urlencode(query)}"
        try:
            answer = sdk.http("GET", address, token=self._token, verify=self._verify, raw=True)
        except sdk.HttpError as error:
            if error.status in (400, 404):  # the container has not started, or the pod is gone
                return None
            raise
        return answer if isinstance(answer, bytes) else b""

    def _call(self, method: str, path: str, document: object = None) -> Object:
        group, _, rest = path.rpartition(":")
        address = f"{self._url}/{group or 'api/v1'}/namespaces/{self.namespace}/{rest}"
        answer = sdk.http(method, address, document, token=self._token, verify=self._verify)
        if not isinstance(answer, dict):
            raise sdk.StepError(f"{sdk.redact(self._url)} does not answer like the API of Kubernetes; check the endpoint of the record")
        return answer


def secret(name: str, values: Mapping[str, str], labels: Mapping[str, str], owner: Object) -> Object:
    """A Secret that ends with its owner."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "labels": dict(labels),
            "ownerReferences": [
                {
                    "apiVersion": owner["apiVersion"],
                    "kind": owner["kind"],
                    "name": owner["metadata"]["name"],
                    "uid": owner["metadata"]["uid"],
                }
            ],
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def labels(given: Mapping[str, str]) -> dict[str, str]:
    """The facts of a job as labels. A value that no label can hold is left out."""
    found = {f"fuseml.org/{name}": value for name, value in given.items() if _LABEL.fullmatch(value)}
    return {"app.kubernetes.io/managed-by": "fuseml", **found}


def variables(job_variables: Mapping[str, str], secrets: Mapping[str, str], name: str) -> list[Object]:
    """The variables of a container; the secret ones come from the Secret of the job."""
    plain: list[Object] = [{"name": key, "value": value} for key, value in job_variables.items()]
    return plain + [{"name": key, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}} for key in secrets]
