"""KServe in small, in the modes Knative and Standard, as its controller 0.20 was seen to behave.

Its status is that of the former model for some ticks after a change. In the mode Knative the requests go to the newest ready revision, or are
split between it and the one that was rolled out last. In the mode Standard a Deployment rolls out.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field
from typing import Any

from tests.contract import model_pods
from tests.contract.model_pods import Controller, Object, Pod, Rollout

_STALE = 3  # ticks until the controller sees a change
_NO_RUNTIME = "No runtime found to support specified framework/version"


@dataclass
class _Service:
    """The state behind one InferenceService: its Knative revisions in the order of their creation, or its Rollouts."""

    uid: str
    unseen: int = 0
    spec: Object = field(default_factory=dict)
    template: Object = field(default_factory=dict)
    revisions: dict[str, Pod] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    rolled_out: str = ""
    previous: str = ""
    stable: Rollout | None = None
    canaries: dict[str, Rollout] = field(default_factory=dict)


class KServe(Controller):
    """The controller of InferenceServices. `formats` are those that an installed runtime reads."""

    kinds = (("inferenceservices", "kserve/inferenceservices.yaml"),)
    formats = ("mlflow", "sklearn")

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self._services: dict[str, _Service] = {}

    def tick(self) -> None:
        present = {item["metadata"]["name"]: item for item in self.api.all("inferenceservices")}
        for name in self._services.keys() - present.keys():
            self._forget(name)
        for name, item in present.items():
            if name in self._services and self._services[name].uid != item["metadata"]["uid"]:
                self._forget(name)
            state = self._services.setdefault(name, _Service(item["metadata"]["uid"]))
            if item["spec"] != state.spec:
                state.unseen += 1
                if state.unseen < _STALE:
                    continue
                state.spec, state.unseen = copy.deepcopy(item["spec"]), 0
            if state.spec:
                mode = item["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
                (self._knative if mode == "Knative" else self._standard)(name, item, state)
        self.show([pod for state in self._services.values() for pod in _pods(state)])

    def chosen(self, name: str) -> Pod | None:
        state = self._services.get(name)
        if state is None:
            return None
        if state.stable is None:
            shares = state.shares
            return state.revisions[random.choices(list(shares), list(shares.values()))[0]] if shares else None
        percents = {item["predictor"]["name"]: item["trafficPercent"] for item in state.spec.get("canary", ())}
        ready = {key: rollout for key, rollout in state.canaries.items() if any(pod.is_ready for pod in rollout.pods)}
        drawn = random.uniform(0, 100)
        for key, rollout in ready.items():
            drawn -= percents[key]
            if drawn < 0:
                return next(pod for pod in rollout.pods if pod.is_ready)
        return next((pod for pod in state.stable.pods if pod.is_ready), None)

    def _knative(self, name: str, item: Object, state: _Service) -> None:
        status = item.setdefault("status", {"conditions": []})
        predictor = copy.deepcopy(state.spec["predictor"])
        percent = predictor.pop("canaryTrafficPercent", None)
        model = predictor["model"]
        if model["modelFormat"]["name"] not in self.formats:
            status["modelStatus"] = _model_status("InvalidSpec", "NoSupportingRuntime", _NO_RUNTIME)
            return
        template = _template(item, predictor)
        if template != state.template:
            state.template = template
            revision = f"{name}-predictor-{len(state.revisions) + 1:05}"
            state.revisions[revision] = self._pod(f"{revision}-deployment", item, predictor)
            labels = state.revisions[revision].labels
            self.api.put("revisions", {"metadata": {"name": revision, "labels": labels, "ownerReferences": [{"uid": state.uid}]}})
        for pod in state.revisions.values():
            pod.age += 1
        created = list(state.revisions)[-1]
        component_before = status.get("components", {}).get("predictor", {})
        ready = next((key for key, pod in reversed(state.revisions.items()) if pod.is_ready), "")
        if ready:
            wanted: list[tuple[str, int]] = [(ready, 100)]
            if percent is not None and state.rolled_out:
                wanted = [(ready, percent), (state.rolled_out, 100 - percent)]
            shares: dict[str, int] = {}
            for key, share in wanted:
                shares[key] = shares.get(key, 0) + share
            state.shares = {key: share for key, share in shares.items() if share}
            latest = wanted[0][1]
            if state.rolled_out != ready:
                if latest == 100:
                    state.previous, state.rolled_out = state.rolled_out, ready
            elif ready == created and latest < 100 and shares[ready] == 100 and state.previous:
                state.rolled_out = state.previous
        # A server that ends with code 0 is none to KServe: only its pod shows it.
        failure = "" if state.revisions[created].load_failure else state.revisions[created].failure
        component: Object = {"latestCreatedRevision": created}
        # The traffic of the first revision is there a moment before the address.
        component |= {"url": f"{self.url}/{name}"} if component_before.get("traffic") else {}
        component |= {"latestReadyRevision": ready} if ready else {}
        component |= {"latestRolledoutRevision": state.rolled_out} if state.rolled_out else {}
        component |= {"previousRolledoutRevision": state.previous} if state.previous else {}
        component["traffic"] = [{"revisionName": key, "percent": share} for key, share in state.shares.items()]
        status["components"] = {"predictor": component}
        # Of the Knative Service, and no sign of the InferenceService's own.
        status["observedGeneration"] = item["metadata"]["generation"] + 1
        route = {"type": "PredictorRouteReady", "status": "True"}
        if failure:
            status["modelStatus"] = _model_status("BlockedByFailedLoad", "ModelLoadFailed", failure)
            status["conditions"] = [route, {"type": "Ready", "status": "Unknown"}]
        else:
            is_ready = state.revisions[created].is_ready
            status["modelStatus"] = {"transitionStatus": "UpToDate" if is_ready else "InProgress"}
            status["conditions"] = [route, {"type": "Ready", "status": "True" if is_ready else "Unknown"}]

    def _standard(self, name: str, item: Object, state: _Service) -> None:
        status = item.setdefault("status", {"conditions": []})
        state.stable = state.stable or Rollout(f"{name}-predictor")
        predictor = state.spec["predictor"]
        self.ended(state.stable.follow(_template(item, predictor), lambda pod: self._pod(pod, item, predictor)))
        wanted = {canary["predictor"]["name"]: canary["predictor"] for canary in state.spec.get("canary", ())}
        for key in state.canaries.keys() - wanted.keys():
            self.ended(state.canaries.pop(key).pods)
        for key, canary in wanted.items():
            rollout = state.canaries.setdefault(key, Rollout(f"{name}-{key}-predictor"))
            self.ended(rollout.follow(_template(item, canary), lambda pod, canary=canary: self._pod(pod, item, canary)))  # type: ignore[misc]
        for rollout in (state.stable, *state.canaries.values()):
            deployment = rollout.as_object(item["metadata"]["labels"])
            self.api.put("deployments", deployment | {"metadata": {**deployment["metadata"], "ownerReferences": [{"uid": state.uid}]}})
        for key in [key for kind, key in self.api.objects if kind == "deployments"]:
            if key.startswith(f"{name}-r") and key not in {rollout.name for rollout in state.canaries.values()}:
                del self.api.objects["deployments", key]
        status["address"] = {"url": f"{self.url}/{name}"}
        status["url"] = f"{self.url}/{name}"
        status["canaryStatuses"] = [
            {"name": key, "ready": any(pod.is_ready for pod in state.canaries[key].pods), "trafficPercent": canary["trafficPercent"]}
            for key, canary in ((canary["predictor"]["name"], canary) for canary in state.spec.get("canary", ()))
        ]
        # Ready stays while a new model is rolled out.
        is_ready = any(pod.is_ready for pod in state.stable.pods)
        status["conditions"] = [{"type": "Ready", "status": "True" if is_ready else "False"}]

    def _pod(self, name: str, item: Object, predictor: Object) -> Pod:
        account = self.api.objects.get(("serviceaccounts", predictor.get("serviceAccountName", "")), {})
        environment: dict[str, str] = {}
        for named in account.get("secrets", ()):
            secret = self.api.objects["secrets", named["name"]]
            if secret["metadata"]["annotations"].get("serving.kserve.io/s3-endpoint") == "s3.example.com:9000":
                environment |= self.environment(named["name"])
        model = predictor["model"]
        graceful = bool(model.get("lifecycle", {}).get("preStop"))
        assert model["readinessProbe"]["httpGet"]["path"] == f"/v2/models/{item['metadata']['name']}/ready"
        labels = {**item["metadata"]["labels"], **predictor["labels"]}
        return Pod(name, labels, model["storageUri"], environment, "kserve-container", graceful)

    def _forget(self, name: str) -> None:
        """Everything that the InferenceService owned goes with it."""
        state = self._services.pop(name)
        for kind, key in list(self.api.objects):
            if [owner["uid"] for owner in self.api.objects[kind, key]["metadata"].get("ownerReferences", ())] == [state.uid]:
                del self.api.objects[kind, key]


def _pods(state: _Service) -> list[Pod]:
    rollouts = [state.stable, *state.canaries.values()] if state.stable is not None else []
    return [*state.revisions.values(), *(pod for rollout in rollouts if rollout is not None for pod in rollout.pods)]


def _template(item: Object, predictor: Object) -> Object:
    """The template of the pods: it has the labels and annotations of the InferenceService too, except those that the predictor sets itself."""
    metadata = item["metadata"]
    labels = {key: value for key, value in metadata["labels"].items() if key != "networking.knative.dev/visibility"}
    spec = {key: value for key, value in predictor.items() if key not in ("minReplicas", "maxReplicas", "labels", "annotations", "name")}
    return copy.deepcopy(
        {
            "labels": {**labels, **predictor["labels"]},
            "annotations": {**metadata.get("annotations", {}), **predictor["annotations"]},
            "spec": spec,
        }
    )


def _model_status(transition: str, reason: str, message: str) -> Object:
    return {
        "transitionStatus": transition,
        "states": {"activeModelState": "", "targetModelState": "FailedToLoad"},
        "lastFailureInfo": {"reason": reason, "message": message, "exitCode": 1},
    }


def running() -> Any:
    """The controller over an API of its own, and the address of the API."""
    return model_pods.running(KServe)
