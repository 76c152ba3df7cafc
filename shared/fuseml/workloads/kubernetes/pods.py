"""The pods of a job: their logs as one, the cause of a failure, and the reason why they do not start."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fuseml.workloads.kubernetes.api import PART, Api, Object
from fuseml.workloads.port import Position, State, Status

INDEX = "batch.kubernetes.io/job-completion-index"
_STUCK = ("InvalidImageName", "ErrImageNeverPull")
"""Reasons that only a change of the job removes."""
_DOUBTFUL = (
    "ErrImagePull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
)
"""Reasons that may pass: a registry that is away, a Secret that is not there yet."""
_SECOND = len("2026-11-30T09:00:00")
_STAMPED = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ?(.*)", re.DOTALL)


def sorted_by_node(pods: Sequence[Object]) -> list[Object]:
    """The pods in the order of their nodes, those of initializers first."""
    return sorted(pods, key=lambda pod: (node(pod), str(pod["metadata"]["name"])))


def node(pod: Object) -> int:
    """The number of the node that the pod is."""
    return int((pod["metadata"].get("labels") or {}).get(INDEX) or 0)


def logs(api: Api, pods: Sequence[Object], position: Position, part: int = PART) -> tuple[str, Position]:
    """The logs of the pods behind a position, and the position behind them. A line without an end is left for the next call, unless its
    container has ended. An answer with `part` bytes is not the whole log."""
    texts: list[str] = []
    places = dict(position)
    for pod in sorted_by_node(pods):
        name, prefix = str(pod["metadata"]["name"]), f"[{node(pod)}] " if node(pod) else ""
        for container, state in _containers(pod):
            key, is_whole, has_more = f"{name}/{container}", False, True
            while has_more and not is_whole:
                last, seen = places.get(key, ("", 0))
                answer = api.log(name, container, _second(last)) or b""
                is_whole = len(answer) < part
                found = list(_lines(answer, is_whole and "terminated" in state))
                fresh = _fresh(found, last, seen)
                texts += (f"{prefix}{line.decode('utf-8', 'replace')}" for line in fresh)
                newest = max((stamp for stamp, _ in found), key=_order, default="")
                if newest and _order(newest) >= _order(last):
                    places[key] = (newest, sum(stamp == newest for stamp, _ in found))
                has_more = bool(fresh)
    return "".join(texts), places


def _fresh(found: Sequence[tuple[str, bytes]], last: str, seen: int) -> list[bytes]:
    """The lines behind the first `seen` ones of the time `last`.

    The log is asked for from a full second on, so the last lines come again; those of the last time are counted. Lines of the two outputs of a
    program may be stored out of the order of their times.
    """
    known = itertools.count()
    return [line for stamp, line in found if _order(stamp) > _order(last) or (stamp == last and next(known) >= seen)]


def _order(stamp: str) -> str:
    """A text that sorts as the time does: the fraction of a second has as many digits as it needs."""
    second, fraction = stamp[:_SECOND], re.match(r"\.\d+", stamp[_SECOND:])
    return f"{second}{fraction[0] if fraction else '.'}"


def _second(stamp: str) -> str:
    """The full second of a time, which is all that the API compares; empty for none."""
    return re.sub(r"(?<=:\d\d)\.\d+", "", stamp)


def _lines(log: bytes, has_ended: bool) -> Iterator[tuple[str, bytes]]:
    """Time and text of the lines."""
    for line in log.splitlines(keepends=True):
        match = _STAMPED.fullmatch(line)
        if match and (line.endswith(b"\n") or has_ended):
            yield match[1].decode(), match[2] if line.endswith(b"\n") else match[2] + b"\n"


def cause(pods: Sequence[Object]) -> str:
    """The end of the first container that failed, in words; empty if none is known."""
    for pod in sorted_by_node(pods):
        for container, state in _containers(pod):
            ended = state.get("terminated") or {}
            if ended.get("exitCode"):
                reason = str(ended.get("reason") or "Error")
                why = f" ({reason})" if reason != "Error" else ""
                return f"the container '{container}' of the pod {pod['metadata']['name']} ended with exit code {ended['exitCode']}{why}"
        status = pod.get("status") or {}
        if status.get("phase") == "Failed":
            return f"the pod {pod['metadata']['name']} failed: {status.get('reason') or ''} {status.get('message') or ''}".strip()
    return ""


def pending(pods: Sequence[Object]) -> Status:
    """The state of pods of a job that has not ended."""
    state: State = "running" if _is_running(pods) else "queued"
    for pod in sorted_by_node(pods):
        for _, container in _containers(pod):
            found = container.get("waiting") or {}
            reason = str(found.get("reason") or "")
            if reason and reason not in ("ContainerCreating", "PodInitializing"):
                said = _said(pod, reason, found.get("message"))
                return Status(state, waiting=said, is_doubtful=reason in _DOUBTFUL, is_stuck=reason in _STUCK)
        for condition in (pod.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
                return Status(state, waiting=_said(pod, str(condition.get("reason")), condition.get("message")))
    return Status(state)


def _is_running(pods: Sequence[Object]) -> bool:
    return any((pod.get("status") or {}).get("phase") in ("Running", "Succeeded", "Failed") for pod in pods)


def _said(pod: Object, reason: str, message: Any) -> str:
    return " ".join(f"pod {pod['metadata']['name']}: {reason}: {message or ''}".rstrip(": ").split())[:500]


def _containers(pod: Object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and state of the containers, in the order of the pod."""
    status = pod.get("status") or {}
    states = {
        item["name"]: item.get("state") or {} for kind in ("initContainerStatuses", "containerStatuses") for item in status.get(kind) or ()
    }
    for item in (*((pod.get("spec") or {}).get("initContainers") or ()), *((pod.get("spec") or {}).get("containers") or ())):
        yield item["name"], states.get(item["name"], {})
