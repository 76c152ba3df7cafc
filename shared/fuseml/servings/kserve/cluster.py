"""The calls of the serving to Kubernetes."""

from __future__ import annotations

from fuseml.servings import workloads
from fuseml.servings.objects import Object

_KNATIVE = ("serving.knative.dev", "v1")


class Cluster(workloads.Workloads):
    """The InferenceServices in one namespace of a cluster."""

    needs = "KServe"
    group, version = "serving.kserve.io", "v1beta1"

    def apply_service(self, body: Object) -> None:
        """Create the InferenceService, or update it to `body`."""
        with self._refusals("patch", "inferenceservices.serving.kserve.io"):
            self._custom("patch", "inferenceservices", name=body["metadata"]["name"], body=body, **workloads.APPLY)

    def services(self, selector: str) -> list[Object]:
        """The InferenceServices with these labels. Raises NotFoundError on a cluster without KServe."""
        with self._refusals("list", "inferenceservices.serving.kserve.io"):
            return list(self._custom("list", "inferenceservices", label_selector=selector)["items"])

    def delete_service(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "inferenceservices.serving.kserve.io"):
            self._custom("delete", "inferenceservices", name=name)

    def revisions(self, selector: str) -> list[Object]:
        """The Knative Revisions with these labels."""
        with self._refusals("list", "revisions.serving.knative.dev"):
            return list(self._custom("list", "revisions", of=_KNATIVE, label_selector=selector)["items"])
