"""The calls of the serving to Kubernetes."""

from __future__ import annotations

from fuseml.servings import workloads
from fuseml.servings.objects import Object


class Cluster(workloads.Workloads):
    """The Models and Experiments in one namespace of a cluster."""

    needs = "Seldon Core 2"
    group, version = "mlops.seldon.io", "v1alpha1"

    def apply_model(self, body: Object) -> None:
        """Create the Model, or update it to `body`."""
        with self._refusals("patch", "models.mlops.seldon.io"):
            self._custom("patch", "models", name=body["metadata"]["name"], body=body, **workloads.APPLY)

    def models(self, selector: str) -> list[Object]:
        """The Models with these labels. Raises NotFoundError on a cluster without Seldon Core 2."""
        with self._refusals("list", "models.mlops.seldon.io"):
            return list(self._custom("list", "models", label_selector=selector)["items"])

    def delete_model(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "models.mlops.seldon.io"):
            self._custom("delete", "models", name=name)

    def apply_experiment(self, body: Object) -> None:
        """Create the Experiment, or update it to `body`."""
        with self._refusals("patch", "experiments.mlops.seldon.io"):
            self._custom("patch", "experiments", name=body["metadata"]["name"], body=body, **workloads.APPLY)

    def experiments(self, selector: str) -> list[Object]:
        """The Experiments with these labels."""
        with self._refusals("list", "experiments.mlops.seldon.io"):
            return list(self._custom("list", "experiments", label_selector=selector)["items"])

    def delete_experiment(self, name: str) -> None:
        """Raises NotFoundError."""
        with self._refusals("delete", "experiments.mlops.seldon.io"):
            self._custom("delete", "experiments", name=name)
