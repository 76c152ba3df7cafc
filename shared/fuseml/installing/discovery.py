"""Finds the tools that a cluster has, as far as the account of the kubeconfig may read."""

from __future__ import annotations

from collections.abc import Sequence

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.installation import exposure, findings
from fuseml.installing import registering
from fuseml.installing.programs import Forbidden, Object, Programs

_ZONE_LENGTH = 100


def discover(programs: Programs, zone: str) -> tuple[list[findings.Finding], list[str]]:
    """The tools of the cluster, with drafts of their records in a zone, and the missing rights, each as a sentence."""
    missing: list[str] = []

    def readable(kind: str) -> Sequence[Object]:
        try:
            return programs.list(kind, "--all-namespaces")
        except Forbidden as error:
            missing.append(error.right)
            return ()

    services = readable("services")
    definitions = {item["metadata"]["name"]: item for item in readable("customresourcedefinitions.apiextensions.k8s.io")}
    routes, virtual_services = (
        readable(kind) if kind in definitions else () for kind in (registering.ROUTES, registering.VIRTUAL_SERVICES)
    )
    outside = exposure.exposures(services, readable(registering.INGRESSES), routes, virtual_services)
    return findings.find(findings.Snapshot(services, definitions, outside), zone), missing


def zone(programs: Programs) -> str:
    """The zone of the kubeconfig's cluster: empty, which is that of the server, where FuseML runs in it; else the name of its context."""
    try:
        if programs.find("configmap", "fuseml", "fuseml") is not None:
            return ""
    except Forbidden:
        pass
    try:
        context = programs.kubectl("config", "current-context").strip()
    except errors.PermanentError:
        context = "cluster"  # inside of a pod there is no kubeconfig
    name = "".join(sign if document.IDENTIFIER.fullmatch(sign) else "-" for sign in context).strip("-")
    return name[:_ZONE_LENGTH] or "cluster"
