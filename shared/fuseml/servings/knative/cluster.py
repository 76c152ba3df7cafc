"""The calls of the serving to Kubernetes."""

from __future__ import annotations

from fuseml.servings import workloads
from fuseml.servings.objects import Object


class Cluster(workloads.Workloads):
    """The applications in one namespace of a cluster."""

    needs = "Knative Serving"
    group, version = "serving.knative.dev", "v1"

    def apply_service(self, body: Object) -> None:
        """Create the Service, or update it to `body`."""
        with self._refusals("patch", "services.serving.knative.dev"):
            self._custom("patch", "services", name=body["metadata"]["name"], body=body, **workloads.APPLY)

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
