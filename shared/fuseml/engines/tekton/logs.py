"""The log of a step: what the containers of its attempts have written, one after the other, with secrets hidden.

Kubernetes keeps no place in a log, so it is read from its beginning each time. Offsets are those of the masked text. A step that is cancelled
or takes too long goes on for a second or three after Tekton has recorded its end; what it writes then is not waited for.
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
    """A piece of the log of a TaskRun, which runs `task` of the pipeline. Raises NotFoundError when its last pod is gone."""
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
            written = _written(cluster, attempt["podName"], f"step-{container['name']}", needed=last)
            yield from mask.stream(written, final=finished or not last)


def _written(cluster: cluster.Cluster, pod: str, container: str, *, needed: bool) -> Iterator[bytes]:
    try:
        yield from cluster.log(pod, container)
    except errors.InvalidError:
        return  # the container has not begun, or never did
    except errors.NotFoundError:
        if needed:
            raise errors.NotFoundError(
                f"the pod {pod} is gone, and its log with it; Tekton removes the pods of steps that were cancelled or took too long at once,"
                " unless its feature flag keep-pod-on-cancel is set"
            ) from None
