"""The calls of the serving to Kubernetes. Writes are server-side apply: one call creates or updates an object."""

from __future__ import annotations

from typing import Any

from fuseml.runtime import cluster

Object = dict[str, Any]

_KNATIVE = ("serving.knative.dev", "v1")
_APPLY = {"field_manager": "fuseml", "force": True, "_content_type": "application/apply-patch+yaml"}


class Cluster(cluster.Connection):
    """The applications in one namespace of a cluster. Errors as in `cluster.Connection`."""

    needs = "Knative Serving"

    def apply_service(self, body: Object) -> None:
        """Create the Service, or update it to `body`."""
        with self._refusals("patch", "services.serving.knative.dev"):
            self._custom("patch", "services", name=body["metadata"]["name"], body=body, **_APPLY)

    def service(self, name: str) -> Object:
        """Raises NotFoundError."""
        with self._refusals("get", "services.serving.knative.dev"):
            return self._custom("get", "services", name=name)

    def services(self, selector: str) -> list[Object]:
        """The Services with these labels."""
        with self._refusals("list", "services.serving.knative.dev"):
            return list(self._custom("list", "services", label_selector=selector)["items"])

    def delete_service(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "services.serving.knative.dev"):
            self._custom("delete", "services", name=name)

    def revisions(self, selector: str) -> list[Object]:
        """The Revisions with these labels."""
        with self._refusals("list", "revisions.serving.knative.dev"):
            return list(self._custom("list", "revisions", label_selector=selector)["items"])

    def apply_secret(self, body: Object) -> None:
        """Create the Secret, or update it to `body`."""
        with self._refusals("patch", "secrets", sent_secret=True):
            self._core().patch_namespaced_secret(body["metadata"]["name"], self.namespace, body, _request_timeout=cluster.TIMEOUT, **_APPLY)

    def delete_secret(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "secrets"):
            self._core().delete_namespaced_secret(name, self.namespace, _request_timeout=cluster.TIMEOUT)

    def _core(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(self._client)

    def _custom(self, verb: str, plural: str, **arguments: object) -> Object:
        from kubernetes import client

        call = getattr(client.CustomObjectsApi(self._client), f"{verb}_namespaced_custom_object")
        response: Object = call(*_KNATIVE, self.namespace, plural, **arguments, _request_timeout=cluster.TIMEOUT)
        return response
