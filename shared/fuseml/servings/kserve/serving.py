"""Reconciles InferenceServices with the specs of applications, and reads their status."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import application, errors
from fuseml.runtime import clock
from fuseml.servings import objects, rollout, sweeping
from fuseml.servings.kserve import render, status, steps
from fuseml.servings.kserve.cluster import Cluster
from fuseml.servings.objects import Object
from fuseml.servings.port import ServingSpec, State, Status

_log = logging.getLogger("fuseml.serving")
_MANAGED = objects.selector(render.MANAGED)


@dataclass(frozen=True, slots=True)
class _Found:
    """The objects of one application on the cluster: its InferenceService, Knative Revisions, Deployments and pods."""

    service: Object | None = None
    revisions: list[Object] = field(default_factory=list)
    deployments: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)


class KServeServing:
    """Serves applications in the namespace of `cluster`, which belongs to one FuseML only."""

    splits = True
    servers = render.SERVERS

    def __init__(self, cluster: Cluster, settings: render.Settings) -> None:
        self._cluster, self._settings = cluster, settings

    def check(self, spec: ServingSpec) -> None:
        """See `Serving.check`."""
        render.check(spec)

    def apply(self, spec: ServingSpec) -> None:
        """See `Serving.apply`."""
        render.check(spec)
        name = render.object_name(spec.name)
        found = self._found([spec], f"{_MANAGED},{objects.APPLICATION_LABEL}={spec.name}")[name]
        self._apply(spec, self._body(spec, found))

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        # The InferenceService first: while the record exists, the sweep serves an application without one again, with its Secret.
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_service(render.object_name(name))
        self._remove(render.object_name(name), render.account_name(name))

    def status(self, spec: ServingSpec) -> Status:
        """See `Serving.status`."""
        found = self._found([spec], f"{_MANAGED},{objects.APPLICATION_LABEL}={spec.name}")
        return self._status(spec, found[render.object_name(spec.name)])

    def statuses(self, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
        """See `Serving.statuses`."""
        found = self._found(specs, _MANAGED)
        return {spec.name: self._status(spec, found[render.object_name(spec.name)]) for spec in specs}

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """See `Serving.servable`. A revision without a pod gets one again."""
        return {revision.number for revision in spec.revisions}

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        """See `Serving.reconcile`."""
        try:
            found = self._found(specs, _MANAGED)
        except errors.NotFoundError:
            if specs:
                raise
            return  # a cluster without KServe
        refusal = sweeping.each(specs, lambda spec: self._serve(spec, found.pop(render.object_name(spec.name))))
        for name, former in found.items():
            if former.service is not None:
                _log.info("InferenceService %s belongs to no application and is deleted", name)
                self._remove(name, f"{name}{render.ACCOUNT_SUFFIX}")
        if refusal is not None:
            raise refusal

    def _serve(self, spec: ServingSpec, present: _Found) -> None:
        render.check(spec)
        body = self._body(spec, present)
        if present.service is None or objects.differs(present.service, body):
            _log.info("application %s differs from its spec and is applied", spec.name)
            self._apply(spec, body)

    def _found(self, specs: Sequence[ServingSpec], selector: str) -> dict[str, _Found]:
        """Name -> what there is: of each spec, and of each other InferenceService of the selector."""
        services = {service["metadata"]["name"]: service for service in self._cluster.services(selector)}
        modes = {_mode(service) for service in services.values()}
        revisions = self._cluster.revisions(selector) if "Knative" in modes else []
        is_standard = "Standard" in modes
        deployments = self._cluster.deployments(selector) if is_standard else []
        pods = self._cluster.pods(selector) if services else []
        found: dict[str, _Found] = {}
        for name in {*services, *(render.object_name(spec.name) for spec in specs)}:
            own = services[name]["metadata"].get("labels", {}).get(objects.APPLICATION_LABEL) if name in services else None
            found[name] = _Found(
                services.get(name), *([item for item in kind if _application(item) == own] for kind in (revisions, deployments, pods))
            )
        return found

    def _body(self, spec: ServingSpec, found: _Found) -> Object:
        if render.mode(spec.newest.document) == "Knative":
            step = steps.step(spec.traffic, status.seen(found.service, found.revisions))
            return render.knative(spec, step.template, step.percent, self._settings)
        return render.standard(spec, _base(spec, found.service), self._settings)

    def _status(self, spec: ServingSpec, found: _Found) -> Status:
        name = render.object_name(spec.name)
        owned = [application.Resource(name=name, kind="InferenceService.serving.kserve.io")]
        if render.secret(spec) is not None:
            named = render.account_name(spec.name)
            owned += [application.Resource(name=named, kind=kind) for kind in ("Secret", "ServiceAccount")]
        if found.service is None:
            cause = "its InferenceService does not exist; the sweep creates it"
            return Status("starting", cause, "", {}, self._cluster.namespace, owned, name)
        chosen = render.mode(spec.newest.document)
        if chosen == "Knative":
            state, cause, traffic, due = self._knative(spec, found, found.service)
        else:
            state, cause, traffic, due = self._standard(spec, found, found.service)
        invalid = status.invalid(found.service)
        if state == "starting" and invalid and clock.ago(self._settings.settling) > spec.newest.registered:
            state, cause = "failed", invalid
        url = status.url(found.service, chosen, gateway=bool(spec.newest.document.options.get("gateway")))
        if state == "ready" and not url:
            state, cause = "starting", "KServe has not reported its address yet"
        return Status(state, cause, url, traffic, self._cluster.namespace, owned, name, due)

    def _knative(self, spec: ServingSpec, found: _Found, service: Object) -> tuple[State, str, dict[int, int], bool]:
        """State, cause, traffic, and whether the next step is due."""
        traffic = status.traffic(service, found.revisions)
        step = steps.step(spec.traffic, status.seen(service, found.revisions))
        present = steps.Step(status.template(service) or 0, service["spec"]["predictor"].get("canaryTrafficPercent"))
        if traffic == dict(spec.traffic) and (present.template not in spec.traffic or status.is_current(service, found.revisions)):
            return "ready", "", traffic, False
        if present.template in spec.traffic:
            # The pods first: to KServe a server that ends with code 0 is still loading.
            failed = rollout.failure(found.pods, present.template, self._read_log)
            reported = status.load_failure(service) if status.is_current(service, found.revisions) else ""
            if failed or reported:
                return "failed", failed.message if failed else reported, traffic, False
        return "starting", status.progress(service), traffic, step != present

    def _standard(self, spec: ServingSpec, found: _Found, service: Object) -> tuple[State, str, dict[int, int], bool]:
        base = status.template(service)
        canaries = {objects.number({"metadata": item["predictor"]}): item for item in service["spec"].get("canary", ())}
        ready = {item["name"] for item in service.get("status", {}).get("canaryStatuses", ()) if item.get("ready")}
        shares = {number: item["trafficPercent"] for number, item in canaries.items() if number and item["predictor"]["name"] in ready}
        name = f"{service['metadata']['name']}-predictor"
        deployment = next((item for item in found.deployments if item["metadata"]["name"] == name), None)
        own = [pod for pod in found.pods if objects.number(pod) not in canaries]
        answering = rollout.answering(own)
        if shares:
            answering = {number: percent * (100 - sum(shares.values())) // 100 for number, percent in answering.items()} | shares
        complete = deployment is not None and base is not None and rollout.is_complete(deployment, base)
        if complete and answering == dict(spec.traffic) and {base, *canaries} == set(spec.traffic):
            lingers = rollout.lingers(found.pods, spec.traffic)
            return "starting" if lingers else "ready", rollout.LINGERS if lingers else "", answering, False
        for number in sorted(spec.traffic, reverse=True):
            failure = rollout.failure(found.pods, number, self._read_log)
            if failure is not None:
                return "failed", failure.message, answering, False
        return "starting", status.progress(service), answering, False

    def _apply(self, spec: ServingSpec, body: Object) -> None:
        # The Secret first: KServe reads it when it makes the first pod.
        secret, account = render.secret(spec), render.account(spec)
        if secret is not None:
            self._cluster.apply_secret(secret)
        if account is not None:
            self._cluster.apply_account(account)
        self._cluster.apply_service(body)

    def _remove(self, name: str, account: str) -> None:
        # The InferenceService last: by it the sweep finds what a kill leaves.
        for delete, named in (
            (self._cluster.delete_secret, account),
            (self._cluster.delete_account, account),
            (self._cluster.delete_service, name),
        ):
            with contextlib.suppress(errors.NotFoundError):
                delete(named)

    def _read_log(self, pod: str, container: str, former: bool) -> str:
        return self._cluster.pod_log(pod, container, former=former)


def _base(spec: ServingSpec, service: Object | None) -> int:
    """The revision of the predictor in the mode Standard: the present one if it keeps a share, else the one with the largest."""
    present = status.template(service) if service is not None else None
    if present is not None and present in spec.traffic and len(spec.traffic) > 1:
        return present
    return max(spec.traffic, key=lambda number: (spec.traffic[number], number))


def _mode(service: Object) -> str:
    return str(service["metadata"].get("annotations", {}).get(render.MODE_ANNOTATION, "Knative"))


def _application(resource: Object) -> str | None:
    label: str | None = resource["metadata"].get("labels", {}).get(objects.APPLICATION_LABEL)
    return label
