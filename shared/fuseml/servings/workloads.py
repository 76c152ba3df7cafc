"""The calls to Kubernetes that several servings need: Secrets and service accounts, and the state of pods and Deployments."""

from __future__ import annotations

from typing import Any

from fuseml.runtime import cluster
from fuseml.servings.objects import Object

APPLY: Any = {"field_manager": "fuseml", "force": True, "_content_type": "application/apply-patch+yaml"}
_LINES = 200  # a server writes more after its exception while it ends


class Workloads(cluster.Connection):
    """The objects of one namespace. Writes are server-side apply: one call creates or updates an object. Errors as in `Connection`."""

    group: str
    version: str

    def apply_secret(self, body: Object) -> None:
        """Create the Secret, or update it to `body`."""
        with self._refusals("patch", "secrets", sent_secret=True):
            self._core().patch_namespaced_secret(body["metadata"]["name"], self.namespace, body, _request_timeout=cluster.TIMEOUT, **APPLY)

    def delete_secret(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "secrets"):
            self._core().delete_namespaced_secret(name, self.namespace, _request_timeout=cluster.TIMEOUT)

    def apply_account(self, body: Object) -> None:
        """Create the service account, or update it to `body`."""
        with self._refusals("patch", "serviceaccounts"):
            self._core().patch_namespaced_service_account(
                body["metadata"]["name"], self.namespace, body, _request_timeout=cluster.TIMEOUT, **APPLY
            )

    def delete_account(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "serviceaccounts"):
            self._core().delete_namespaced_service_account(name, self.namespace, _request_timeout=cluster.TIMEOUT)

    def deployments(self, selector: str) -> list[Object]:
        """The Deployments with these labels."""
        from kubernetes import client

        with self._refusals("list", "deployments.apps"):
            return self._items(client.AppsV1Api(self._client).list_namespaced_deployment, selector)

    def pods(self, selector: str) -> list[Object]:
        """The pods with these labels."""
        with self._refusals("list", "pods"):
            return self._items(self._core().list_namespaced_pod, selector)

    def pod_log(self, pod: str, container: str, *, former: bool) -> str:
        """The last lines of a container; with `former` those of its end before the present start. Raises NotFoundError, InvalidError."""
        with self._refusals("get", "pods/log"):
            response = self._core().read_namespaced_pod_log(
                pod,
                self.namespace,
                container=container,
                previous=former,
                tail_lines=_LINES,
                _preload_content=False,
                _request_timeout=cluster.TIMEOUT,
            )
            return bytes(response.data).decode(errors="replace")

    def _items(self, call: Any, selector: str) -> list[Object]:
        """The objects as the API sends them: the client's own classes have other names for their fields."""
        import json

        response = call(self.namespace, label_selector=selector, _preload_content=False, _request_timeout=cluster.TIMEOUT)
        return list(json.loads(response.data)["items"])

    def _core(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(self._client)

    def _custom(self, verb: str, plural: str, *, of: tuple[str, str] | None = None, **arguments: object) -> Object:
        """A call on a kind of the tool, or of another group and version."""
        from kubernetes import client

        call = getattr(client.CustomObjectsApi(self._client), f"{verb}_namespaced_custom_object")
        group, version = of or (self.group, self.version)
        response: Object = call(group, version, self.namespace, plural, **arguments, _request_timeout=cluster.TIMEOUT)
        return response
