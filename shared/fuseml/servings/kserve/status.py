"""The state of an application from what KServe reports. Its own Ready is not read: after a change it is that of the former model for a while.

The revision of the application is a label of the pods and of the Knative revisions, so a state counts for the revision that it is about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fuseml.servings import objects, rollout
from fuseml.servings.kserve.steps import Seen
from fuseml.servings.objects import Object


def seen(service: Mapping[str, Any] | None, revisions: Sequence[Object]) -> Seen:
    """The revisions that KServe has in the mode Knative. `revisions` are the Knative Revisions of the application."""
    if service is None:
        return Seen()
    numbers = {item["metadata"]["name"]: objects.number(item) for item in revisions}
    component = _component(service)
    return Seen(
        template=template(service),
        ready=numbers.get(component.get("latestReadyRevision", "")),
        rolled_out=numbers.get(component.get("latestRolledoutRevision", "")),
        previous=numbers.get(component.get("previousRolledoutRevision", "")),
    )


def template(service: Mapping[str, Any]) -> int | None:
    """The revision of the application in the predictor of the InferenceService."""
    return objects.number({"metadata": service["spec"]["predictor"]})


def traffic(service: Mapping[str, Any], revisions: Sequence[Object]) -> dict[int, int]:
    """Revision of the application -> percent of the requests, in the mode Knative."""
    numbers = {item["metadata"]["name"]: objects.number(item) for item in revisions}
    found: dict[int, int] = {}
    for target in _component(service).get("traffic", ()):
        number = numbers.get(target.get("revisionName", ""))
        if number is not None and target.get("percent"):
            found[number] = found.get(number, 0) + target["percent"]
    return found


def is_current(service: Mapping[str, Any], revisions: Sequence[Object]) -> bool:
    """Whether the state is about the present template: its Knative revision was made."""
    numbers = {item["metadata"]["name"]: objects.number(item) for item in revisions}
    return numbers.get(_component(service).get("latestCreatedRevision", "")) == template(service)


def load_failure(service: Mapping[str, Any]) -> str:
    """The cause if the model of the present template cannot be loaded; empty while it may be."""
    model = service.get("status", {}).get("modelStatus", {})
    failure = model.get("lastFailureInfo", {})
    if model.get("transitionStatus") == "BlockedByFailedLoad":
        return rollout.cause(failure.get("message", "")) or failure.get("reason") or revision_failure(service) or "the model failed to load"
    return revision_failure(service)


def revision_failure(service: Mapping[str, Any]) -> str:
    """The cause if the Knative revision of the template failed, such as a server that ended; empty otherwise."""
    condition = conditions(service).get("PredictorConfigurationReady", {})
    message = condition.get("message") or condition.get("reason") or ""
    about = re.search(r'Revision "([^"]*)"', message)
    created = _component(service).get("latestCreatedRevision")
    if condition.get("status") != "False" or (about and about[1] != created):
        return ""
    cause = re.sub(r'^(Revision|Configuration) "[^"]*" (failed with message|does not have any ready Revision)[:.]\s*', "", message)
    return rollout.last_line(cause) or "its Knative revision failed"


def invalid(service: Mapping[str, Any]) -> str:
    """The cause if KServe calls the specification invalid, such as one without a runtime, or cannot make its objects; empty otherwise."""
    model = service.get("status", {}).get("modelStatus", {})
    failure = model.get("lastFailureInfo", {})
    reconciled = conditions(service).get("PredictorReady", {})
    if reconciled.get("status") == "False" and reconciled.get("reason") == "ReconcileFailed":
        return reconciled.get("message") or "KServe cannot make its objects"
    if model.get("transitionStatus") != "InvalidSpec":
        return ""
    if failure.get("reason") == "RuntimeNotRecognized":
        runtime = service["spec"]["predictor"]["model"].get("runtime")
        return f"KServe has no runtime {runtime!r}: install it, or name one that is there in FUSEML_SERVING_RUNTIME of KServe's record"
    return ": ".join(filter(None, (failure.get("reason"), failure.get("message")))) or "the specification is invalid"


def progress(service: Mapping[str, Any]) -> str:
    """What KServe waits for."""
    reported = conditions(service)
    waiting = [reported.get(name, {}) for name in ("PredictorReady", "IngressReady", "CanaryPredictorReady")]
    texts = (condition.get("message") or condition.get("reason") for condition in waiting if condition.get("status") != "True")
    state = service.get("status", {}).get("modelStatus", {}).get("states", {}).get("targetModelState")
    return next(
        (rollout.last_line(text) for text in texts if text),
        f"the model is {state.lower()}" if state else "KServe has not reconciled it yet",
    )


def url(service: Mapping[str, Any], chosen: str, *, gateway: bool) -> str:
    """The address of the application; empty while unknown. In the mode Knative it is the predictor's: the one of the whole service may belong to
    an ingress that is not installed."""
    status = service.get("status", {})
    if chosen == "Knative":
        return str(_component(service).get("url", ""))
    return str(status.get("url", "")) if gateway else str(status.get("address", {}).get("url", ""))


def conditions(service: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The conditions by type."""
    return {condition["type"]: condition for condition in service.get("status", {}).get("conditions", ())}


def _component(service: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = service.get("status", {}).get("components", {}).get("predictor", {})
    return found
