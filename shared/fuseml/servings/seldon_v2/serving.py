"""Reconciles Models and Experiments with the specs of applications, and reads their status.

A new Model is loaded beside the served ones. The Experiment moves the requests once it is ready, and then the former Model goes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import application, errors
from fuseml.runtime import clock
from fuseml.servings import objects, rollout, sweeping
from fuseml.servings.objects import Object
from fuseml.servings.port import ServingSpec, State, Status
from fuseml.servings.seldon_v2 import render
from fuseml.servings.seldon_v2.cluster import Cluster

_log = logging.getLogger("fuseml.serving")
_MANAGED = objects.selector(render.MANAGED)
_FAILED = ("ModelFailed", "ScheduleFailed")


@dataclass(frozen=True, slots=True)
class _Found:
    """The objects of one application on the cluster."""

    models: dict[str, Object] = field(default_factory=dict)
    experiment: Object | None = None

    def is_ready(self, model: str) -> bool:
        return _condition(self.models.get(model), "ModelReady").get("status") == "True"

    @property
    def candidates(self) -> dict[str, int]:
        """Model -> weight, as the Experiment has them."""
        listed = self.experiment["spec"]["candidates"] if self.experiment is not None else []
        return {item["name"]: item["weight"] for item in listed}


class SeldonV2Serving:
    """Serves applications in the namespace of `cluster`, which belongs to one FuseML only, and has a runtime of Seldon Core 2."""

    splits = True
    servers = render.SERVERS

    def __init__(self, cluster: Cluster, settings: render.Settings) -> None:
        self._cluster, self._settings = cluster, settings

    def check(self, spec: ServingSpec) -> None:
        """See `Serving.check`."""
        render.check(spec)

    def apply(self, spec: ServingSpec) -> None:
        """See `Serving.apply`."""
        self._serve(spec, self._found(_application(spec)).get(render.object_name(spec.name), _Found()))

    def remove(self, name: str) -> None:
        """See `Serving.remove`."""
        found = self._found(f"{_MANAGED},{objects.APPLICATION_LABEL}={name}").get(render.object_name(name), _Found())
        self._remove(render.object_name(name), found)

    def status(self, spec: ServingSpec) -> Status:
        """See `Serving.status`."""
        return self._status(spec, self._found(_application(spec)).get(render.object_name(spec.name), _Found()))

    def statuses(self, specs: Sequence[ServingSpec]) -> Mapping[str, Status]:
        """See `Serving.statuses`."""
        found = self._found(_MANAGED)
        return {spec.name: self._status(spec, found.get(render.object_name(spec.name), _Found())) for spec in specs}

    def servable(self, spec: ServingSpec) -> Collection[int]:
        """See `Serving.servable`. A revision without a Model gets one again."""
        return {revision.number for revision in spec.revisions}

    def reconcile(self, specs: Sequence[ServingSpec]) -> None:
        """See `Serving.reconcile`."""
        try:
            found = self._found(_MANAGED)
        except errors.NotFoundError:
            if specs:
                raise
            return  # a cluster without Seldon Core 2
        refusal = sweeping.each(specs, lambda spec: self._serve(spec, found.pop(render.object_name(spec.name), _Found())))
        for name, former in found.items():
            _log.info("the Models of %s belong to no application and are deleted", name)
            self._remove(name, former)
        if refusal is not None:
            raise refusal

    def _serve(self, spec: ServingSpec, present: _Found) -> None:
        render.check(spec)
        self._converge(spec, present)

    def _found(self, selector: str) -> dict[str, _Found]:
        """Name of the Experiment -> what there is."""
        found: dict[str, _Found] = {}
        for model in self._cluster.models(selector):
            name = render.object_name(model["metadata"].get("labels", {}).get(objects.APPLICATION_LABEL, ""))
            found.setdefault(name, _Found()).models[model["metadata"]["name"]] = model
        for experiment in self._cluster.experiments(selector):
            name = experiment["metadata"]["name"]
            found[name] = _Found(found.get(name, _Found()).models, experiment)
        return found

    def _converge(self, spec: ServingSpec, found: _Found) -> None:
        """Take the next step: load the Models, move the requests, remove the former Models."""
        wanted = {body["metadata"]["name"]: body for body in (render.model(spec, revision) for revision in render.served(spec))}
        secret = render.secret(spec)
        if secret is not None:
            self._cluster.apply_secret(secret)
        changed = [body for name, body in wanted.items() if name not in found.models or objects.differs(found.models[name], body)]
        for body in changed:
            self._cluster.apply_model(body)
        if changed or not all(found.is_ready(name) for name in wanted):
            return
        body = render.experiment(spec)
        if found.experiment is None or objects.differs(found.experiment, body):
            body["metadata"]["annotations"][render.ROUTED_ANNOTATION] = clock.now()
            self._cluster.apply_experiment(body)
        elif self._is_routed(found.experiment):
            for name in sorted(found.models.keys() - wanted.keys()):
                with contextlib.suppress(errors.NotFoundError):
                    self._cluster.delete_model(name)

    def _status(self, spec: ServingSpec, found: _Found) -> Status:
        names = {render.model_name(spec.name, revision): revision.number for revision in render.served(spec)}
        owned = [application.Resource(name=name, kind="Model.mlops.seldon.io") for name in sorted(names)]
        owned.append(application.Resource(name=render.object_name(spec.name), kind="Experiment.mlops.seldon.io"))
        if render.secret(spec) is not None:
            owned.append(application.Resource(name=render.account_name(spec.name), kind="Secret"))
        url = (
            spec.newest.document.options.get("gateway", "").rstrip("/") or f"http://seldon-mesh.{self._cluster.namespace}.svc.cluster.local"
        )

        def status(state: State, cause: str, *, due: bool = False) -> Status:
            model = render.model_in_requests(spec.name)
            return Status(state, cause, url, _traffic(found), self._cluster.namespace, owned, model, due)

        for name in names:
            condition = _condition(found.models.get(name), "ModelReady")
            if condition.get("status") == "False" and condition.get("reason") in _FAILED:
                return status("failed", rollout.cause(condition.get("message", "")) or condition["reason"])
        waiting = [name for name in names if not found.is_ready(name)]
        if waiting:
            cause = "its Models do not exist; the sweep creates them" if waiting[0] not in found.models else f"{waiting[0]} is being loaded"
            return status("starting", cause)
        if found.experiment is None or objects.differs(found.experiment, render.experiment(spec)):
            return status("starting", "its Models are loaded, and the requests are moved to them next", due=True)
        if not self._is_routed(found.experiment):
            message = _condition(found.experiment, "ExperimentReady").get("message", "")
            return status("starting", rollout.last_line(message) or "the Experiment moves the requests")
        return status("ready", "", due=bool(found.models.keys() - names.keys()))

    def _is_routed(self, experiment: Object) -> bool:
        """Whether requests follow the Experiment as it is now."""
        settled = experiment["metadata"].get("annotations", {}).get(render.ROUTED_ANNOTATION, "") <= clock.ago(self._settings.settling)
        return settled and _condition(experiment, "ExperimentReady").get("status") == "True"

    def _remove(self, name: str, found: _Found) -> None:
        # The Secret first: by the other objects the sweep finds what a kill leaves. It applies each Secret anew.
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_secret(f"{name}{render.ACCOUNT_SUFFIX}")
        with contextlib.suppress(errors.NotFoundError):
            self._cluster.delete_experiment(name)
        for model in sorted(found.models):
            with contextlib.suppress(errors.NotFoundError):
                self._cluster.delete_model(model)


def _application(spec: ServingSpec) -> str:
    return f"{_MANAGED},{objects.APPLICATION_LABEL}={spec.name}"


def _traffic(found: _Found) -> dict[int, int]:
    """Revision -> percent, as the Experiment routes the requests."""
    if _condition(found.experiment, "ExperimentReady").get("status") != "True":
        return {}
    numbers = {name: objects.number(model) for name, model in found.models.items()}
    return {number: weight for name, weight in found.candidates.items() if (number := numbers.get(name)) is not None}


def _condition(resource: Object | None, kind: str) -> Mapping[str, str]:
    listed: Sequence[Mapping[str, str]] = (resource or {}).get("status", {}).get("conditions", ())
    return next((condition for condition in listed if condition["type"] == kind), {})
