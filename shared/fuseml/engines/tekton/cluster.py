"""The Kubernetes API calls of the engine."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from typing import Any

from fuseml.engines.tekton.values import Object
from fuseml.runtime import cluster

_TEKTON = ("tekton.dev", "v1")
_BLOCK = 1 << 16


class Cluster(cluster.Connection):
    """The runs in one namespace of a cluster. For the errors of all calls, see `cluster.Connection`."""

    needs = "Tekton"

    def create_pipeline_run(self, body: Object) -> Object:
        """Create it and return the stored object. Raises ConflictError when the name exists."""
        with self._refusals("create", "pipelineruns.tekton.dev"):
            return self._custom("create", "pipelineruns", body=body)

    def pipeline_run(self, name: str) -> Object:
        """The PipelineRun of this name. Raises NotFoundError."""
        with self._refusals("get", "pipelineruns.tekton.dev"):
            return self._custom("get", "pipelineruns", name=name)

    def pipeline_runs(self, selector: str) -> list[Object]:
        """The PipelineRuns that match a label selector."""
        with self._refusals("list", "pipelineruns.tekton.dev"):
            return list(self._custom("list", "pipelineruns", label_selector=selector)["items"])

    def patch_pipeline_run(self, name: str, patch: Object) -> None:
        """Apply a merge patch. Raises ConflictError when the patch has an outdated `resourceVersion`."""
        with self._refusals("patch", "pipelineruns.tekton.dev"):
            self._custom("patch", "pipelineruns", name=name, body=patch)

    def delete_pipeline_run(self, name: str) -> None:
        """Delete it and, in the background, its dependents. Raises NotFoundError."""
        with self._refusals("delete", "pipelineruns.tekton.dev"):
            self._custom("delete", "pipelineruns", name=name, propagation_policy="Background")

    def task_runs(self, selector: str) -> list[Object]:
        """The TaskRuns that match a label selector."""
        with self._refusals("list", "taskruns.tekton.dev"):
            return list(self._custom("list", "taskruns", label_selector=selector)["items"])

    def create_secret(self, body: Object) -> None:
        """Create a Secret. Raises ConflictError when the name exists."""
        with self._refusals("create", "secrets", sent_secret=True):
            self._core().create_namespaced_secret(self.namespace, body, _request_timeout=cluster.TIMEOUT)

    def secret_owners(self, name: str) -> list[str]:
        """The uids of the owners of a Secret. Raises NotFoundError."""
        with self._refusals("get", "secrets"):
            metadata = self._core().read_namespaced_secret(name, self.namespace, _request_timeout=cluster.TIMEOUT).metadata
        return [owner.uid for owner in metadata.owner_references or []]

    def secret(self, name: str) -> dict[str, str]:
        """The decoded data of a Secret. Raises NotFoundError."""
        with self._refusals("get", "secrets"):
            data = self._core().read_namespaced_secret(name, self.namespace, _request_timeout=cluster.TIMEOUT).data or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def log(self, pod: str, container: str, last_lines: int | None = None) -> Iterator[bytes]:
        """The output of a container so far, or its last lines, in blocks.

        Raises NotFoundError without the pod, InvalidError before the container has started.
        """
        part = {} if last_lines is None else {"tail_lines": last_lines}
        with self._refusals("get", "pods/log"):
            response = self._core().read_namespaced_pod_log(
                pod, self.namespace, container=container, **part, _preload_content=False, _request_timeout=cluster.TIMEOUT
            )
            with contextlib.closing(response):
                yield from response.stream(_BLOCK)

    def _core(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(self._client)

    def _custom(self, verb: str, plural: str, **arguments: object) -> Object:
        from kubernetes import client

        call = getattr(client.CustomObjectsApi(self._client), f"{verb}_namespaced_custom_object")
        result: Object = call(*_TEKTON, self.namespace, plural, **arguments, _request_timeout=cluster.TIMEOUT)
        return result
