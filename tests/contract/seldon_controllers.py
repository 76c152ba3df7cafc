"""Seldon Core 1 and 2 in small. Core 1 as its operator 1.17.1 was seen to behave, Core 2 by its published definitions and documentation.

Core 1 stays `Creating` whatever the cause, and splits no requests: each predictor has a Service. With its executor, or a server that ends without
a pause, an update refuses requests for a moment. Core 2 keeps the state of a former generation until it has seen a new one.
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.contract import model_pods
from tests.contract.model_pods import Controller, Object, Pod, Rollout

_STALE = 3  # ticks until the controller sees a change


@dataclass
class _Deployment:
    """The state behind one SeldonDeployment: a Rollout for each predictor, in their order."""

    uid: str
    unseen: int = 0
    spec: Object = field(default_factory=dict)
    predictors: dict[str, Rollout] = field(default_factory=dict)


class SeldonCore1(Controller):
    """The operator of SeldonDeployments."""

    kinds = (("seldondeployments", "seldon-v1/seldondeployments.yaml"),)

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self._services: dict[str, _Deployment] = {}

    def tick(self) -> None:
        present = {item["metadata"]["name"]: item for item in self.api.all("seldondeployments")}
        for name, state in list(self._services.items()):
            if name not in present or present[name]["metadata"]["uid"] != state.uid:
                del self._services[name]
                for predictor in state.predictors.values():
                    self.api.objects.pop(("deployments", predictor.name), None)
        for name, item in present.items():
            state = self._services.setdefault(name, _Deployment(item["metadata"]["uid"]))
            if item["spec"] != state.spec:
                state.unseen += 1
                if state.unseen < _STALE:
                    continue
                state.spec, state.unseen = copy.deepcopy(item["spec"]), 0
            if state.spec:
                self._reconcile(name, item, state)
        self.show([pod for state in self._services.values() for predictor in state.predictors.values() for pod in predictor.pods])

    def chosen(self, name: str) -> Pod | None:
        state = self._services.get(name)
        first = next(iter(state.predictors.values()), None) if state is not None else None
        return next((pod for pod in first.pods if pod.is_ready), None) if first is not None else None

    def target(self, path: str) -> str:
        # Each Service has a host of its own; this router has one for all.
        return path.removeprefix("/v2/models/").removesuffix("/infer") if path.endswith("/infer") else ""

    def _reconcile(self, name: str, item: Object, state: _Deployment) -> None:
        wanted = {predictor["name"]: predictor for predictor in state.spec["predictors"]}
        assert sum(predictor.get("traffic", 0) for predictor in wanted.values()) == 100
        for key in state.predictors.keys() - wanted.keys():
            gone = state.predictors.pop(key)
            self.api.objects.pop(("deployments", gone.name), None)
        for key, predictor in wanted.items():
            rollout = state.predictors.setdefault(key, Rollout(f"{name}-{key}-0-{name}"))
            self.ended(rollout.follow(_template(predictor), lambda pod, predictor=predictor: self._pod(pod, predictor)))  # type: ignore[misc]
            deployment = rollout.as_object(predictor["labels"])
            self.api.put("deployments", deployment)
        is_ready = all(len(rollout.pods) == 1 and rollout.pods[0].is_ready for rollout in state.predictors.values())
        item["status"] = {
            "state": "Available" if is_ready else "Creating",
            "address": {"url": f"{self.url}/v2/models/{name}/infer"},
            "conditions": [{"type": "Ready", "status": "True" if is_ready else "False"}],
        }

    def _pod(self, name: str, predictor: Object) -> Pod:
        graph = predictor["graph"]
        (container,) = predictor["componentSpecs"][0]["spec"]["containers"]
        assert (graph["implementation"], container["name"]) == ("MLFLOW_SERVER", graph["name"])
        has_executor = predictor.get("annotations", {}).get("seldon.io/no-engine") != "true"
        graceful = not has_executor and "preStop" in container["lifecycle"]
        environment = self.environment(graph.get("envSecretRefName", ""))
        assert environment.get("RCLONE_CONFIG_S3_ACCESS_KEY_ID") == environment.get("AWS_ACCESS_KEY_ID")
        return Pod(name, dict(predictor["labels"]), graph["modelUri"], environment, container["name"], graceful)


class SeldonCore2(Controller):
    """The scheduler and the operator of Models and Experiments."""

    kinds = (("models", "seldon-v2/models.yaml"), ("experiments", "seldon-v2/experiments.yaml"))

    def __init__(self, api: Any) -> None:
        super().__init__(api)
        self._models: dict[str, Pod] = {}
        self._routes: dict[str, dict[str, int]] = {}
        self._unseen: dict[str, int] = {}

    def tick(self) -> None:
        models = {item["metadata"]["name"]: item for item in self.api.all("models")}
        for name in self._models.keys() - models.keys():
            del self._models[name]
        for name, item in models.items():
            if name not in self._models:
                remote = json.loads(self.environment(item["spec"].get("secretName", "")).get("s3", "{}")).get("parameters", {})
                keys = {"AWS_ACCESS_KEY_ID": remote.get("access_key_id", ""), "AWS_SECRET_ACCESS_KEY": remote.get("secret_access_key", "")}
                self._models[name] = Pod(name, item["metadata"]["labels"], item["spec"]["storageUri"], keys, "agent")
            pod = self._models[name]
            pod.age += 1
            reason = "ModelFailed" if pod.failure else "ModelAvailable" if pod.is_ready else "ModelProgressing"
            condition = {"type": "ModelReady", "status": "True" if pod.is_ready else "False", "reason": reason, "message": pod.failure}
            item["status"] = {"conditions": [condition]}
        experiments = {item["metadata"]["name"]: item for item in self.api.all("experiments")}
        for name in self._routes.keys() - experiments.keys():
            del self._routes[name]
        for name, item in experiments.items():
            wanted = {candidate["name"]: candidate["weight"] for candidate in item["spec"]["candidates"]}
            if self._routes.get(name) == wanted:
                continue
            self._unseen[name] = self._unseen.get(name, 0) + 1
            if self._unseen[name] < _STALE:
                continue  # the former state
            is_ready = all(key in self._models and self._models[key].is_ready for key in wanted)
            item["status"] = {"conditions": [{"type": "ExperimentReady", "status": "True" if is_ready else "False"}]}
            if is_ready:
                self._routes[name], self._unseen[name] = wanted, 0

    def chosen(self, name: str) -> Pod | None:
        shares = self._routes.get(name)
        return self._models.get(random.choices(list(shares), list(shares.values()))[0]) if shares else None

    def target(self, path: str) -> str:
        routed = path.removeprefix("/v2/models/").removesuffix("/infer")
        return routed.removesuffix(".experiment") if routed.endswith(".experiment") else ""


def _template(predictor: Object) -> Object:
    return {key: value for key, value in predictor.items() if key not in ("replicas", "traffic")}


def core_1() -> Any:
    """Seldon Core 1 over an API of its own, and the address of the API."""
    return model_pods.running(SeldonCore1)


def core_2() -> Any:
    """Seldon Core 2 over an API of its own, and the address of the API."""
    return model_pods.running(SeldonCore2)
