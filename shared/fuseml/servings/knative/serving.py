"""Reconciles Knative Services with the specs of applications, and reads their status."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Mapping, Sequence

from fuseml.domain import application, errors, model_servers
from fuseml.servings import objects, sweeping
from fuseml.servings.knative import render
from fuseml.servings.knative.cluster import Cluster
from fuseml.servings.objects import Object
from fuseml.servings.port import ServingSpec, Status

_log = logging.getLogger("fuseml.serving")
_MANAGED = objects.selector(render.MANAGED)


class KnativeServing:
    """Serves applications in the namespace of `cluster`, which belongs to one FuseML only."""

    splits = True
    servers = model_servers.OFFERED[application.BUILT_IN]

    def __init__(self, cluster: Cluster, settings: render.Settings) -> None:
        self._cluster, self._settings = cluster, settings

    def check(self, spec: ServingSpec) -> None:
        """See `Serving.check`. Every revision that is kept can be served."""

    def apply(self, spec: ServingSpec) -> None:
        """See `Serving.apply`."""
        former = self._former(spec) if spec.traffic.keys() - {spec.newest.number} else {}
        self._apply(spec, render.service(spec, self._settings, former))

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        # The Knative Service first: while the record exists, the sweep serves an application without one again, with its Secret.
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_service(render.object_name(name))
        self._remove(render.object_name(name))

    def status(self, spec: ServingSpec) -> Status:
        """See `Serving.status`."""
        try:
            service = self._cluster.service(render.object_name(spec.name))
        except errors.NotFoundError:
            service = None
        return self._status(spec, service)

    def statuses(self, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
        """See `Serving.statuses`."""
        services = {service["metadata"]["name"]: service for service in self._cluster.services(_MANAGED)}
        return {spec.name: self._status(spec, services.get(render.object_name(spec.name))) for spec in specs}

    def _status(self, spec: ServingSpec, service: Object | None) -> Status:
        name = render.object_name(spec.name)
        owned = [application.Resource(name=name, kind="Service.serving.knative.dev")]
        if render.secret(spec) is not None:
            owned.append(application.Resource(name=name, kind="Secret"))
        if service is None:
            cause = "its Knative Service does not exist; the sweep creates it"
            return Status("starting", cause, "", {}, self._cluster.namespace, owned)
        reported = service.get("status", {})
        conditions = {condition["type"]: condition for condition in reported.get("conditions", ())}
        traffic: dict[int, int] = {}
        for target in reported.get("traffic", ()):
            revision = render.number(target.get("revisionName", ""))
            if revision is not None and target.get("percent"):
                traffic[revision] = traffic.get(revision, 0) + target["percent"]
        up_to_date = reported.get("observedGeneration") == service["metadata"]["generation"]
        routes, revisions = conditions.get("RoutesReady", {}), conditions.get("ConfigurationsReady", {})
        url = reported.get("url", "")
        if up_to_date and routes.get("status") == "True" and traffic == dict(spec.traffic):
            return Status("ready", "", url, traffic, self._cluster.namespace, owned)
        failed = up_to_date and revisions.get("status") == "False" and spec.newest.number in spec.traffic
        cause = next((message for message in map(_problem, (revisions, routes)) if message), "Knative has not reconciled it yet")
        return Status("failed" if failed else "starting", cause, url, traffic, self._cluster.namespace, owned)

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """See `Serving.servable`."""
        return {spec.newest.number, *self._former(spec)} & {revision.number for revision in spec.revisions}

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        """See `Serving.reconcile`."""
        existing = {service["metadata"]["name"]: service for service in self._cluster.services(_MANAGED)}
        refusal = sweeping.each(specs, lambda spec: self._serve(spec, existing.pop(render.object_name(spec.name), {})))
        for name in existing:
            _log.info("Knative Service %s belongs to no application and is deleted", name)
            self._remove(name)
        if refusal is not None:
            raise refusal

    def _serve(self, spec: ServingSpec, present: Object) -> None:
        former = self._former(spec) if spec.traffic.keys() - {spec.newest.number} else {}
        body = render.service(spec, self._settings, former)
        if objects.differs(present, body):
            _log.info("application %s differs from its spec and is applied", spec.name)
            self._apply(spec, body)

    def _apply(self, spec: ServingSpec, body: Object) -> None:
        # The Secret first: the first pod of the Service mounts it.
        secret = render.secret(spec)
        if secret is not None:
            self._cluster.apply_secret(secret)
        self._cluster.apply_service(body)

    def _remove(self, name: str) -> None:
        # The Secret first: by the Knative Service the sweep finds what a kill leaves.
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_secret(name)
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_service(name)

    def _former(self, spec: ServingSpec) -> dict[int, str]:
        """Older revision of the application -> its newest Knative revision."""
        revisions = self._cluster.revisions(f"{_MANAGED},{objects.APPLICATION_LABEL}={spec.name}")
        revisions.sort(key=lambda revision: str(revision["metadata"]["creationTimestamp"]))
        names = {render.number(revision["metadata"]["name"]): revision["metadata"]["name"] for revision in revisions}
        return {number: name for number, name in names.items() if number is not None and number != spec.newest.number}


def _problem(condition: Mapping[str, str]) -> str:
    """The cause in a condition that is not True, without Knative's prefix. Of a model server's output it is the last line."""
    if condition.get("status") == "True":
        return ""
    message = condition.get("message") or condition.get("reason") or ""
    message = next((line for line in reversed(message.splitlines()) if line.strip(" .")), "")
    return re.sub(
        r"^(Revision|Configuration) \"[^\"]*\" (failed with message|does not have any ready Revision)[:.]\s*", "", message
    ).strip()
