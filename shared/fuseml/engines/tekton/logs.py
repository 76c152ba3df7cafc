"""The log of a step: the output of the containers of its attempts, one after the other, with masked secrets.

Kubernetes has no offsets in logs, so each read starts at the beginning. Offsets refer to the masked text. A cancelled or timed-out step
runs on for up to three seconds after Tekton has recorded its end; the engine does not wait for that output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fuseml.domain import errors
from fuseml.engines import masking
from fuseml.engines.port import LogChunk
from fuseml.engines.tekton import cluster, report, values


def read(
    cluster: cluster.Cluster,
    task_run: Mapping[str, Any],
    task: Mapping[str, Any],
    secrets: Mapping[str, str],
    *,
    offset: int,
    limit: int,
) -> LogChunk:
    """A chunk of the log of a TaskRun, which runs `task` of the pipeline. Raises NotFoundError when its last pod is gone."""
    mask = masking.Mask(text for key, text in secrets.items() if key.startswith(values.SECRET_PREFIX))
    finished = report.is_finished(task_run)
    collected, position = bytearray(), 0
    for piece in _pieces(cluster, task_run, task, mask, finished=finished):
        collected += piece[max(0, offset - position) :]
        position += len(piece)
        if len(collected) > limit:
            return LogChunk(bytes(collected[:limit]), offset + limit, complete=False)
    return LogChunk(bytes(collected), offset + len(collected), complete=finished)


def _pieces(
    cluster: cluster.Cluster, task_run: Mapping[str, Any], task: Mapping[str, Any], mask: masking.Mask, *, finished: bool
) -> Iterator[bytes]:
    status = task_run.get("status", {})
    attempts = [*(status.get("retriesStatus") or []), status]
    for number, attempt in enumerate(attempts, start=1):
        last = number == len(attempts)
        if number > 1:
            yield f"=== attempt {number} ===\n".encode()
        if not attempt.get("podName"):
            continue
        for container in task["taskSpec"]["steps"]:
            output = _output(cluster, attempt["podName"], f"step-{container['name']}", needed=last)
            yield from mask.stream(output, final=finished or not last)


def _output(cluster: cluster.Cluster, pod: str, container: str, *, needed: bool) -> Iterator[bytes]:
    try:
        yield from cluster.log(pod, container)
    except errors.InvalidError:
        return  # the container has not started, or never did
    except errors.NotFoundError:
        if needed:
            raise errors.NotFoundError(
                f"the log is gone, because the pod {pod} was deleted; to keep the pods of cancelled and timed-out steps,"
                " set Tekton's feature flag keep-pod-on-cancel"
            ) from None
