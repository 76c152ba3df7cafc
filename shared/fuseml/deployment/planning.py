"""The plan and the state of a deployment: each part with what a deployment does to it, or with what it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fuseml.deployment import cluster, tryout

Row = dict[str, object]


def is_deployed() -> bool:
    """Whether the cluster has a deployment, finished or not."""
    return cluster.find("namespace", cluster.NAMESPACE, "") is not None


def plan(services: Sequence[cluster.Object], environment: Mapping[str, str], configured: Mapping[str, str]) -> list[Row]:
    """The parts of a deployment, and whether each is created, updated or kept. Reads the cluster and changes nothing."""
    stored, secret = cluster.data("configmap", "fuseml"), cluster.data("secret", "fuseml")
    present = {item["metadata"]["name"]: item for item in cluster.list_objects("ksvc")}
    rows: list[Row] = [
        _row(f"namespace {name}", "keep" if cluster.find("namespace", name, "") else "create")
        for name in (cluster.NAMESPACE, cluster.WORKLOADS)
    ]
    rows.append(
        _row("configuration and secrets", "update" if secret else "create", "" if secret else "shows the administrator's token once")
    )
    rows += _trial(stored, secret, environment, configured)
    rows.append(_row("database schema", "update" if secret else "create"))
    for service in services:
        name = service["metadata"]["name"]
        wanted, now = _image(service), _image(present[name]) if name in present else ""
        action = "create" if name not in present else "update" if now != wanted else "keep"
        rows.append(_row(f"function {name}", action, wanted))
    rows.append(_row("broker, triggers, schedule", "update" if cluster.find("broker", "fuseml") else "create"))
    rows.append(_row("settings of Tekton", "update", "config-events and feature-flags, for the whole cluster"))
    return rows


def state() -> list[Row]:
    """The parts of the deployment as they are: functions, events, services for trying out."""
    rows: list[Row] = []
    for kind, label in (("ksvc", "function"), ("broker", "broker"), ("trigger", "trigger"), ("pingsource", "schedule")):
        for item in cluster.list_objects(kind):
            reason = cluster.not_ready_reason(item)
            detail = reason or (_image(item) if kind == "ksvc" else "")
            rows.append(
                {"part": f"{label} {item['metadata']['name']}", "state": "ready" if reason is None else "not ready", "detail": detail}
            )
    for item in cluster.list_objects("statefulset"):
        ready = (item.get("status") or {}).get("readyReplicas", 0)
        detail = "" if ready else "its pod is not ready"
        rows.append({"part": f"service {item['metadata']['name']}", "state": "ready" if ready else "not ready", "detail": detail})
    return rows


def _trial(
    stored: Mapping[str, str], secret: Mapping[str, str], environment: Mapping[str, str], configured: Mapping[str, str]
) -> list[Row]:
    given = {name for name, value in environment.items() if value}
    settings = {**stored, **configured}
    trial = cluster.data("secret", "s3")
    own = tryout.without_trial(secret, trial)
    known = {**own, **{name: environment[name] for name in given}}
    s3 = tryout.needs_s3(tryout.without_trial(settings, tryout.S3_SETTINGS), known, installed=bool(trial))
    rows = []
    for name, setting, is_own in (
        ("PostgreSQL", "FUSEML_DATABASE_URL", "FUSEML_DATABASE_URL" in given),
        ("Gitea", "FUSEML_GIT_TOKEN", "FUSEML_GIT_TOKEN" in given),
    ):
        installed = cluster.find("statefulset", name.lower()) is not None
        if is_own or (setting in secret and not installed):
            rows.append(_row(name, "keep", "your own"))
        else:
            rows.append(_row(name, "update" if installed else "create", f"for trying out; {setting} names your own"))
    rows.append(_row("S3", "update" if trial else "create", "for trying out") if s3 else _row("S3", "keep", "your own"))
    return rows


def _row(part: str, action: str, detail: str = "") -> Row:
    return {"part": part, "action": action, "detail": detail}


def _image(service: Mapping[str, Any]) -> str:
    containers = service["spec"]["template"]["spec"].get("containers") or [{}]
    return str(containers[0].get("image", ""))
