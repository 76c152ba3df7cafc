"""The condition that a step waits for, judged by the objects of a kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]


def unmet(objects: Sequence[Object], condition: str) -> str | None:
    """The reason why the condition is not met; None if every object has it, and there is one.

    The condition `delete` is that there is none. Pods of finished jobs do not count for others. The reason of a pod is that of its container, such as an image that cannot be pulled.
    """
    if condition.lower() == "delete":
        return "; ".join(f"{(item.get('metadata') or {}).get('name', '')} exists" for item in objects[:3]) or None
    counted = [item for item in objects if _status(item).get("phase") != "Succeeded"]
    if not counted:
        return "there is no such object yet"
    reasons = [reason for reason in (_reason(item, condition) for item in counted) if reason]
    return "; ".join(reasons[:3]) or None


def _reason(item: Object, condition: str) -> str:
    metadata, status = item.get("metadata") or {}, _status(item)
    name = str(metadata.get("name", ""))
    found = next((each for each in status.get("conditions") or () if str(each.get("type", "")).lower() == condition.lower()), None)
    observed = status.get("observedGeneration", metadata.get("generation"))
    if found is not None and found.get("status") == "True" and observed == metadata.get("generation"):
        return ""
    detail = _container(status) or " ".join(str((found or {}).get(key) or "") for key in ("reason", "message")).strip()
    return f"{name}: {detail[:300]}" if detail else f"{name} is not {condition.lower()} yet"


def _container(status: Object) -> str:
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in ("ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']} {waiting.get('message') or ''}".strip()
    return ""


def _status(item: Object) -> Object:
    status: Object = item.get("status") or {}
    return status
