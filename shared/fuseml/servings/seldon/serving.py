"""Reconciles SeldonDeployments with the specs of applications, and reads their status from the Deployments and pods.

Seldon Core's own state does not tell a model that loads from one that cannot be loaded, and is that of the former one after an update.
"""

from __future__ import annotations

import contextlib
import logging
import urllib.parse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import application, errors
from fuseml.servings import objects, rollout, sweeping
from fuseml.servings.objects import Object
from fuseml.servings.port import ServingSpec, State, Status
from fuseml.servings.seldon import render
from fuseml.servings.seldon.cluster import Cluster

_log = logging.getLogger("fuseml.serving")
_MANAGED = objects.selector(render.MANAGED)


@dataclass(frozen=True, slots=True)
class _Found:
    """The objects of one application on the cluster."""

    service: Object | None = None
    deployments: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)


class SeldonServing:
    """Serves applications in the namespace of `cluster`, which belongs to one FuseML only."""

    splits = False
    servers = render.SERVERS

    def __init__(self, cluster: Cluster, settings: render.Settings) -> None:
        self._cluster, self._settings = cluster, settings

    def check(self, spec: ServingSpec) -> None:
        """See `Serving.check`."""
        render.check(spec)

    def apply(self, spec: ServingSpec) -> None:
        """See `Serving.apply`."""
        render.check(spec)
        services = self._cluster.services(f"{_MANAGED},{objects.APPLICATION_LABEL}={spec.name}")
        self._apply(spec, render.service(spec, _base(spec, services[0] if services else None), self._settings))

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        # The SeldonDeployment first: while the record exists, the sweep serves an application without one again, with its Secret.
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_service(render.object_name(name))
        self._remove(render.object_name(name), render.account_name(name))

    def status(self, spec: ServingSpec) -> Status:
        """See `Serving.status`."""
        return self._statuses([spec], f"{_MANAGED},{objects.APPLICATION_LABEL}={spec.name}")[spec.name]

    def statuses(self, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
        """See `Serving.statuses`."""
        return self._statuses(specs, _MANAGED)

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """See `Serving.servable`. A revision without a pod gets one again."""
        return {revision.number for revision in spec.revisions}

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        """See `Serving.reconcile`."""
        try:
            existing = {service["metadata"]["name"]: service for service in self._cluster.services(_MANAGED)}
        except errors.NotFoundError:
            if specs:
                raise
            return  # a cluster without Seldon Core 1
        refusal = sweeping.each(specs, lambda spec: self._serve(spec, existing.pop(render.object_name(spec.name), None)))
        for name in existing:
            _log.info("SeldonDeployment %s belongs to no application and is deleted", name)
            self._remove(name, f"{name}{render.ACCOUNT_SUFFIX}")
        if refusal is not None:
            raise refusal

    def _serve(self, spec: ServingSpec, present: Object | None) -> None:
        render.check(spec)
        body = render.service(spec, _base(spec, present), self._settings)
        if present is None or objects.differs(present, body):
            _log.info("application %s differs from its spec and is applied", spec.name)
            self._apply(spec, body)

    def _statuses(self, specs: Sequence[ServingSpec], selector: str) -> dict[str, Status]:
        services = {service["metadata"]["name"]: service for service in self._cluster.services(selector)}
        deployments, pods = (self._cluster.deployments(selector), self._cluster.pods(selector)) if services else ([], [])

        def of(spec: ServingSpec, kind: list[Object]) -> list[Object]:
            return [item for item in kind if item["metadata"].get("labels", {}).get(objects.APPLICATION_LABEL) == spec.name]

        return {
            spec.name: self._status(spec, _Found(services.get(render.object_name(spec.name)), of(spec, deployments), of(spec, pods)))
            for spec in specs
        }

    def _status(self, spec: ServingSpec, found: _Found) -> Status:
        name = render.object_name(spec.name)
        owned = [application.Resource(name=name, kind="SeldonDeployment.machinelearning.seldon.io")]
        if render.secret(spec) is not None:
            owned.append(application.Resource(name=render.account_name(spec.name), kind="Secret"))

        def status(state: State, cause: str, traffic: Mapping[int, int]) -> Status:
            return Status(state, cause, url, traffic, self._cluster.namespace, owned, name)

        url = ""
        if found.service is None:
            return status("starting", "its SeldonDeployment does not exist; the sweep creates it", {})
        url = self._url(spec, found.service)
        shares = {objects.number({"metadata": item}): item.get("traffic", 100) for item in found.service["spec"]["predictors"]}
        ready = rollout.answering(found.pods)
        # Each predictor has a Service of its own, and the gateway knows their shares.
        traffic = ready if len(shares) == 1 else {number: percent for number, percent in shares.items() if number in ready and percent}
        complete = all(any(rollout.is_complete(item, number) for item in found.deployments) for number in spec.traffic)
        extra = any(objects.number(item) not in spec.traffic for item in found.deployments)
        if url and complete and not extra and traffic == dict(spec.traffic):
            lingers = rollout.lingers(found.pods, spec.traffic)
            return status("starting" if lingers else "ready", rollout.LINGERS if lingers else "", traffic)
        for number in sorted(spec.traffic, reverse=True):
            failure = rollout.failure(found.pods, number, self._read_log)
            if failure is not None:
                return status("failed", failure.message, traffic)
        refused = next((cause for item in found.deployments if (cause := rollout.refusal(item))), "")
        reported = found.service.get("status", {})
        if refused or reported.get("state") == "Failed":
            return status("failed", refused or reported.get("description") or "Seldon Core reports a failure", traffic)
        return status("starting", reported.get("description") or "its pods are not ready yet", traffic)

    def _url(self, spec: ServingSpec, service: Object) -> str:
        gateway = spec.newest.document.options.get("gateway", "").rstrip("/")
        if gateway:
            return f"{gateway}/seldon/{self._cluster.namespace}/{service['metadata']['name']}"
        reported = urllib.parse.urlsplit(service.get("status", {}).get("address", {}).get("url", ""))
        return f"{reported.scheme}://{reported.netloc}" if reported.netloc else ""

    def _apply(self, spec: ServingSpec, body: Object) -> None:
        # The Secret first: the first pod needs it.
        secret = render.secret(spec)
        if secret is not None:
            self._cluster.apply_secret(secret)
        self._cluster.apply_service(body)

    def _remove(self, name: str, secret: str) -> None:
        # The Secret first: by the SeldonDeployment the sweep finds what a kill leaves.
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_secret(secret)
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_service(name)

    def _read_log(self, pod: str, container: str, former: bool) -> str:
        return self._cluster.pod_log(pod, container, former=former)


def _base(spec: ServingSpec, service: Object | None) -> int:
    """The revision of the first predictor: the present one if it keeps a share, else the one with the largest."""
    present = objects.number({"metadata": service["spec"]["predictors"][0]}) if service is not None else None
    if present is not None and present in spec.traffic and len(spec.traffic) > 1:
        return present
    return max(spec.traffic, key=lambda number: (spec.traffic[number], number))
