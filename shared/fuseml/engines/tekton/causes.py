"""The causes of failed tasks. Tekton reports the exit code of a container only, so the end of its log is read, and masked.

A cause is Tekton's own message where the log cannot be read: the pod is gone, or the secrets to mask are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fuseml.domain import errors
from fuseml.domain.runs import causes
from fuseml.engines import masking
from fuseml.engines.tekton import cluster, report, values
from fuseml.engines.tekton.events import CHECK_CONTAINER, STEP_LABEL
from fuseml.engines.tekton.values import Object

_log = logging.getLogger("fuseml.engines.tekton")

_LAST_LINES = 2000
_FAILED = frozenset({"", "Failed", "StepFailed"})
_OUT_OF_MEMORY = "OOMKilled"


def explained(
    cluster: cluster.Cluster,
    pipeline_run: Mapping[str, Any],
    task_runs: Sequence[Object],
    secrets: Callable[[], Mapping[str, str]],
) -> list[Object]:
    """The TaskRuns of a run; the message of each failed one is its cause. `secrets` returns the texts of the run's Secret."""
    tasks = {task["name"]: task for task in pipeline_run["spec"]["pipelineSpec"]["tasks"]}
    return [_explained(cluster, task_run, tasks, secrets) for task_run in task_runs]


def _explained(cluster: cluster.Cluster, task_run: Object, tasks: Mapping[str, Object], secrets: Callable[[], Mapping[str, str]]) -> Object:
    condition, status = report.condition_of(task_run), task_run.get("status", {})
    ended = _failed_container(status)
    if condition.get("status") != "False" or condition.get("reason", "") not in _FAILED or ended is None or not status.get("podName"):
        return task_run
    name, how = ended
    try:
        mask = masking.Mask(text for key, text in secrets().items() if key.startswith(values.SECRET_PREFIX))
        tail = _tail(mask.stream(cluster.log(status["podName"], f"step-{name}", _LAST_LINES), final=True))
    except errors.FusemlError as error:
        _log.info("the log of %s cannot be read for its cause: %s", task_run["metadata"]["name"], error.message)
        return task_run
    task = tasks.get(task_run["metadata"]["labels"].get(STEP_LABEL, ""), {})
    roots = [workspace["mountPath"] for workspace in task.get("taskSpec", {}).get("workspaces") or [] if "mountPath" in workspace]
    message = causes.explain(how, tail, roots)
    conditions = [{**item, "message": message} if item is condition else item for item in status["conditions"]]
    return {**task_run, "status": {**status, "conditions": conditions}}


def _failed_container(status: Mapping[str, Any]) -> tuple[str, str] | None:
    """The name of the first failed container of a step and how it ended; None if only the check of the outputs failed, or none did."""
    for item in status.get("steps") or []:
        end = item.get("terminated") or {}
        code = end.get("exitCode", 0)
        if item.get("name") == CHECK_CONTAINER or not code:
            continue
        if end.get("reason") == _OUT_OF_MEMORY:
            return str(item["name"]), f"exited with code {code} (SIGKILL, out of memory: it needs more than its limit)"
        return str(item["name"]), f"exited with code {code}"
    return None


def _tail(blocks: Iterable[bytes]) -> str:
    kept = b""
    for block in blocks:
        kept = (kept + block)[-causes.TAIL :]
    # The first line may be the end of one.
    return (kept if len(kept) < causes.TAIL else kept.partition(b"\n")[2] or kept).decode(errors="replace")
