"""Keeps Knative Services as the applications want them, and reads from them how it is going."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Collection, Mapping, Sequence

from fuseml.domain import application, errors
from fuseml.servings import ServingSpec as Wanted
from fuseml.servings import Status
from fuseml.servings.knative import render
from fuseml.servings.knative.cluster import Cluster, Object

_log = logging.getLogger("fuseml.serving")
_MANAGED = ",".join(f"{label}={value}" for label, value in render.MANAGED.items())


class KnativeServing:
    """Serves applications in the namespace of `cluster`, which holds those of one FuseML only."""

    splits = True

    def __init__(self, cluster: Cluster, settings: render.Settings) -> None:
        self._cluster, self._settings = cluster, settings

    def apply(self, wanted: Wanted) -> None:
        """See `Serving.apply`."""
        former = self._former(wanted) if wanted.traffic.keys() - {wanted.newest.number} else {}
        self._apply(wanted, render.service(wanted, self._settings, former))

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        self._remove(render.object_name(name))

    def status(self, wanted: Wanted) -> Status:
        """See `Serving.status`."""
        name = render.object_name(wanted.name)
        owned = [application.Resource(name=name, kind="Service.serving.knative.dev")]
        if render.secret(wanted) is not None:
            owned.append(application.Resource(name=name, kind="Secret"))
        try:
            found = self._cluster.service(name)
        except errors.NotFoundError:
            return Status("starting", "it is not on the cluster (again) yet", namespace=self._cluster.namespace, resources=owned)
        reported = found.get("status", {})
        conditions = {condition["type"]: condition for condition in reported.get("conditions", ())}
        traffic: dict[int, int] = {}
        for target in reported.get("traffic", ()):
            revision = render.number(target.get("revisionName", ""))
            if revision is not None and target.get("percent"):
                traffic[revision] = traffic.get(revision, 0) + target["percent"]
        up_to_date = reported.get("observedGeneration") == found["metadata"]["generation"]
        routes, revisions = conditions.get("RoutesReady", {}), conditions.get("ConfigurationsReady", {})
        url = reported.get("url", "")
        if up_to_date and routes.get("status") == "True" and traffic == dict(wanted.traffic):
            return Status("ready", "", url, traffic, self._cluster.namespace, owned)
        failed = up_to_date and revisions.get("status") == "False" and wanted.newest.number in wanted.traffic
        cause = next((told for told in map(_told, (revisions, routes)) if told), "Knative has not looked at it yet")
        return Status("failed" if failed else "starting", cause, url, traffic, self._cluster.namespace, owned)

    def servable(self, wanted: Wanted) -> Collection[int]:
        """See `Serving.servable`."""
        return {wanted.newest.number, *self._former(wanted)} & {revision.number for revision in wanted.revisions}

    def reconcile(self, wanted: Sequence[Wanted]) -> None:
        """See `Serving.reconcile`."""
        there = {found["metadata"]["name"]: found["metadata"] for found in self._cluster.services(_MANAGED)}
        refusal: errors.FusemlError | None = None
        for one in wanted:
            present = there.pop(render.object_name(one.name), {})
            try:
                former = self._former(one) if one.traffic.keys() - {one.newest.number} else {}
                body = render.service(one, self._settings, former)
                desired = body["metadata"]["annotations"][render.DESIRED_ANNOTATION]
                if present.get("annotations", {}).get(render.DESIRED_ANNOTATION) != desired:
                    _log.info("application %s is brought to what is wanted of it", one.name)
                    self._apply(one, body)
            except errors.PermanentError as error:
                _log.warning("application %s cannot be served as it is wanted: %s", one.name, error.message)
                refusal = error
        for name in there:
            _log.info("the Knative Service %s belongs to no application and is deleted", name)
            self._remove(name)
        if refusal is not None:
            raise refusal

    def _apply(self, wanted: Wanted, body: Object) -> None:
        # The Secret first: pods look for it as soon as there are any.
        secret = render.secret(wanted)
        if secret is not None:
            self._cluster.apply_secret(secret)
        self._cluster.apply_service(body)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_service(name)
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_secret(name)

    def _former(self, wanted: Wanted) -> dict[int, str]:
        """The newest Knative revision of each of the application's, the newest left out."""
        found = self._cluster.revisions(f"{_MANAGED},{render.APPLICATION_LABEL}={wanted.name}")
        found.sort(key=lambda revision: str(revision["metadata"]["creationTimestamp"]))
        named = {render.number(revision["metadata"]["name"]): revision["metadata"]["name"] for revision in found}
        return {number: name for number, name in named.items() if number is not None and number != wanted.newest.number}


def _told(condition: Mapping[str, str]) -> str:
    """What a condition says is missing; Knative's own prefix and the name of its revision tell nobody anything. Of the last lines that a
    model server wrote the very last is the reason.
    """
    if condition.get("status") == "True":
        return ""
    message = condition.get("message") or condition.get("reason") or ""
    message = next((line for line in reversed(message.splitlines()) if line.strip(" .")), "")
    return re.sub(
        r"^(Revision|Configuration) \"[^\"]*\" (failed with message|does not have any ready Revision)[:.]\s*", "", message
    ).strip()
