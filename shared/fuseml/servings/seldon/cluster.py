"""The calls of the serving to Kubernetes."""

from __future__ import annotations

from fuseml.servings import workloads
from fuseml.servings.objects import Object


class Cluster(workloads.Workloads):
    """The SeldonDeployments in one namespace of a cluster."""

    needs = "Seldon Core 1"
    group, version = "machinelearning.seldon.io", "v1"

    def apply_service(self, body: Object) -> None:
        """Create the SeldonDeployment, or update it to `body`."""
        with self._refusals("patch", "seldondeployments.machinelearning.seldon.io"):
            self._custom("patch", "seldondeployments", name=body["metadata"]["name"], body=body, **workloads.APPLY)

    def services(self, selector: str) -> list[Object]:
        """The SeldonDeployments with these labels. Raises NotFoundError on a cluster without Seldon Core 1."""
        with self._refusals("list", "seldondeployments.machinelearning.seldon.io"):
            return list(self._custom("list", "seldondeployments", label_selector=selector)["items"])

    def delete_service(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "seldondeployments.machinelearning.seldon.io"):
            self._custom("delete", "seldondeployments", name=name)
