"""The controls of the Pod Security Standard `restricted` (kubernetes.io/docs/concepts/security/pod-security-standards), as functions of a pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Object = Mapping[str, Any]
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_SECCOMP = {"RuntimeDefault", "Localhost"}
_SELINUX = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}


def containers(pod: Object) -> Iterator[Object]:
    """All containers of a pod."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind) or ()


def _contexts(pod: Object) -> Iterator[Object]:
    """The security contexts of the pod and of its containers."""
    yield pod.get("securityContext") or {}
    yield from (container.get("securityContext") or {} for container in containers(pod))


def _of_containers(pod: Object, key: str) -> Iterator[Any]:
    yield from ((container.get("securityContext") or {}).get(key) for container in containers(pod))


def _effective(pod: Object, key: str) -> Iterator[Any]:
    """The value of a field in each container, inherited from the pod where the container has none."""
    common = (pod.get("securityContext") or {}).get(key)
    yield from (common if own is None else own for own in _of_containers(pod, key))


def _handlers(pod: Object) -> Iterator[Object]:
    for container in containers(pod):
        yield from (container.get(probe) or {} for probe in ("livenessProbe", "readinessProbe", "startupProbe"))
        yield from (container.get("lifecycle") or {}).values()


CONTROLS: dict[str, Callable[[Object], bool]] = {
    "host process": lambda pod: not any((context.get("windowsOptions") or {}).get("hostProcess") for context in _contexts(pod)),
    "host namespaces": lambda pod: not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
    "privileged": lambda pod: not any(_of_containers(pod, "privileged")),
    "volume types": lambda pod: all(_VOLUMES & volume.keys() for volume in pod.get("volumes") or ()),
    "host ports": lambda pod: not any(port.get("hostPort") for item in containers(pod) for port in item.get("ports") or ()),
    "host of probes": lambda pod: (
        not any((handler.get(kind) or {}).get("host") for handler in _handlers(pod) for kind in ("httpGet", "tcpSocket"))
    ),
    "AppArmor": lambda pod: not any((context.get("appArmorProfile") or {}).get("type") == "Unconfined" for context in _contexts(pod)),
    "SELinux": lambda pod: all(
        (options := context.get("seLinuxOptions") or {}).get("type", "") in _SELINUX and not {"user", "role"} & options.keys()
        for context in _contexts(pod)
    ),
    "proc mount": lambda pod: all(value in (None, "Default") for value in _of_containers(pod, "procMount")),
    "sysctls": lambda pod: all(item["name"] in _SYSCTLS for item in (pod.get("securityContext") or {}).get("sysctls") or ()),
    "privilege escalation": lambda pod: all(value is False for value in _of_containers(pod, "allowPrivilegeEscalation")),
    "running as non-root": lambda pod: all(value is True for value in _effective(pod, "runAsNonRoot")),
    "running as non-root user": lambda pod: all(context.get("runAsUser") != 0 for context in _contexts(pod)),
    "seccomp": lambda pod: all((value or {}).get("type") in _SECCOMP for value in _effective(pod, "seccompProfile")),
    "capabilities": lambda pod: all(
        "ALL" in ((value or {}).get("drop") or ()) and set((value or {}).get("add") or ()) <= {"NET_BIND_SERVICE"}
        for value in _of_containers(pod, "capabilities")
    ),
}
"""Control -> whether a pod meets it."""


def violations(pod: Object) -> list[str]:
    """The controls that the pod does not meet."""
    return [name for name, is_met in CONTROLS.items() if not is_met(pod)]
