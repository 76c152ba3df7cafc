"""The prerequisites of a deployment: programs, cluster, platforms, storage, rights. All are checked, so that one list names what is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fuseml.deployment import cluster

State = Literal["ok", "missing", "unknown"]

PLATFORMS = {
    "services.serving.knative.dev": ("Knative Serving", "https://knative.dev/docs/install/"),
    "brokers.eventing.knative.dev": ("Knative Eventing", "https://knative.dev/docs/install/"),
    "pipelineruns.tekton.dev": ("Tekton Pipelines", "https://tekton.dev/docs/installation/pipelines/"),
}
"""Resource definition -> the required platform, and its instructions."""
_PROGRAMS = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "kn": "https://knative.dev/docs/client/install-kn/",
}
_RIGHTS = (
    ("create", "namespaces", ""),
    ("create", "clusterroles.rbac.authorization.k8s.io", ""),
    ("create", "services.serving.knative.dev", cluster.NAMESPACE),
    ("patch", "configmaps", "tekton-pipelines"),
)
"""Verb, resource and namespace of the rights that an administrator has, and others mostly lack."""
_DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """`detail` is the version or the fault, `remedy` the way out of a missing one."""

    name: str
    state: State
    detail: str = ""
    remedy: str = ""


def check(find: Callable[[str], str | None] = shutil.which) -> list[Prerequisite]:
    """Every prerequisite with its state. Without the cluster those of the cluster are unknown. `find` looks a program up."""
    programs = [_program(name, find(name)) for name in _PROGRAMS]
    if programs[0].state != "ok":
        return [*programs, *_unknown("kubectl is missing")]
    try:
        version = (
            json.loads(cluster.kubectl("version", "--output=json", "--request-timeout=15s")).get("serverVersion", {}).get("gitVersion", "")
        )
    except cluster.DeployError as error:
        reason = str(error).strip().splitlines()[-1]
        unreachable = Prerequisite(
            "cluster", "missing", reason, "set KUBECONFIG to the file of your cluster; kubectl cluster-info tests it"
        )
        return [*programs, unreachable, *_unknown("the cluster cannot be reached")]
    return [*programs, Prerequisite("cluster", "ok", f"{version} {context()}".strip()), *_platforms(), _storage(), *_rights()]


def require(found: Sequence[Prerequisite]) -> None:
    """Raises DeployError that names every missing prerequisite with the way out."""
    missing = [each for each in found if each.state == "missing"]
    if missing:
        lines = [f"  {each.name}: {each.detail}; {each.remedy}" for each in missing]
        raise cluster.DeployError("\n".join(["these prerequisites are missing:", *lines]))


def context() -> str:
    """The context of the kubeconfig, in parentheses; empty without one."""
    try:
        return f"(context {cluster.kubectl('config', 'current-context').strip()})"
    except cluster.DeployError:
        return ""  # inside of a pod there is no kubeconfig


def _unknown(reason: str) -> Iterator[Prerequisite]:
    for name in (*(name for name, _ in PLATFORMS.values()), "storage class", "rights"):
        yield Prerequisite(name, "unknown", reason)


def _program(name: str, place: str | None) -> Prerequisite:
    if place:
        return Prerequisite(name, "ok", place)
    return Prerequisite(name, "missing", f"the program {name!r} is required and is not on the PATH", f"install it ({_PROGRAMS[name]})")


def _platforms() -> Iterator[Prerequisite]:
    try:
        listed = cluster.kubectl("get", "customresourcedefinitions", "--output=json")
    except cluster.DeployError as error:
        for name, _ in PLATFORMS.values():
            yield Prerequisite(name, "unknown", str(error).strip().splitlines()[-1])
        return
    definitions = {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in json.loads(listed)["items"]}
    for definition, (name, instructions) in PLATFORMS.items():
        if definition in definitions:
            yield Prerequisite(name, "ok", definitions[definition].get("app.kubernetes.io/version", ""))
        else:
            yield Prerequisite(name, "missing", f"the cluster does not define {definition}", f"install {name} ({instructions})")


def _storage() -> Prerequisite:
    try:
        classes = json.loads(cluster.kubectl("get", "storageclasses.storage.k8s.io", "--output=json"))["items"]
    except cluster.DeployError as error:
        return Prerequisite("storage class", "unknown", str(error).strip().splitlines()[-1])
    default = [
        item["metadata"]["name"]
        for item in classes
        if any((item["metadata"].get("annotations") or {}).get(key) == "true" for key in _DEFAULT_CLASS)
    ]
    if default:
        return Prerequisite("storage class", "ok", default[0])
    detail = "no storage class is the default; volumes of runs and of services for trying out stay pending"
    names = ", ".join(item["metadata"]["name"] for item in classes)
    remedy = f"mark one of {names} as the default" if names else "install a provisioner of volumes, and mark its class as the default"
    return Prerequisite("storage class", "missing", detail, remedy)


def _rights() -> Iterator[Prerequisite]:
    for verb, resource, namespace in _RIGHTS:
        place = [f"--namespace={namespace}"] if namespace else []
        name = f"right to {verb} {resource}" + (f" in {namespace}" if namespace else "")
        try:
            # The exit code of a refusal is 1, as that of an error.
            cluster.kubectl("auth", "can-i", verb, resource, "--quiet", *place)
            yield Prerequisite(name, "ok")
        except cluster.DeployError as error:
            reason = [line for line in str(error).strip().splitlines()[1:] if not line.startswith("Warning:")]
            if reason:
                yield Prerequisite(name, "unknown", reason[-1])
            else:
                yield Prerequisite(name, "missing", "the account of the kubeconfig lacks it", "use the account of an administrator")
