"""The model that a training means, among all that it logged: one rule (docs/projects.md), which never takes the first in silence.

The model that the input `model` names; else the registered one; else the only one; else the best by the input `metric`; else none, and the
training fails with the list. Models of one name in one run are one model, of which the newest counts, as for MLflow's `runs:/RUN/NAME`; with
a metric each of them counts.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.steps import sdk, tracking

NONE = "none"
"""The input `model` of a training that makes no model."""
_LISTED = 10


@dataclass(frozen=True)
class Model:
    """A model that a run logged as `name`. `versions` are its registered versions, `metrics` its own or else those of its run."""

    name: str
    run_id: str
    uri: str
    created: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    versions: Sequence[tracking.Version] = ()

    @property
    def names(self) -> set[str]:
        """The names by which the input `model` can mean it."""
        registered = {name for version in self.versions for name in (version.name, version.uri)}
        return {self.name, self.uri, self.uri[len("models:/") :] if self.uri.startswith("models:/") else self.uri, *registered}


@dataclass(frozen=True)
class Metric:
    """The metric that decides, and its direction."""

    name: str
    largest: bool


def metric(text: str) -> Metric | None:
    """Parse the input `metric`, `max:r2` or `min:rmse`; None for an empty one. Raises StepError."""
    if not text:
        return None
    direction, _, name = text.partition(":")
    if direction not in ("max", "min") or not name:
        raise sdk.StepError(f"the input 'metric' is '{text}'; write max:NAME or min:NAME, such as max:r2 or min:rmse")
    return Metric(name, direction == "max")


def choose(models: Sequence[Model], named: str, by: Metric | None) -> Model:
    """The one model that the training means. Raises StepError, with the list of models, if the rule leaves none or several."""
    left = list(models)
    if named:
        left = [model for model in models if named in model.names]
        if not left:
            known = sorted({name for model in models for name in (model.name, *(version.name for version in model.versions))})
            close = difflib.get_close_matches(named, known, 1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise sdk.StepError(
                f"the training logged no model '{named}', which the step input 'model' names{hint}; it logged: {listed(models)}"
            )
    left = [model for model in left if model.versions] or left
    if len(left) > 1:
        left = _best(left, by) if by else _newest(left)
    if len(left) == 1:
        return left[0]
    if by:
        raise sdk.StepError(
            f"the training logged {len(left)} models that are equal by {by.name}: {listed(left)}; name one in the step input 'model'"
        )
    raise sdk.StepError(
        f"the training logged {len(left)} models: {listed(left)}; name one in the step input 'model', "
        "or the metric that decides in 'metric' (max:NAME or min:NAME)"
    )


def version_of(model: Model, named: str) -> tracking.Version | None:
    """The registered version of the model: the newest one of its only name, or of the one that is named. Raises StepError for several names."""
    versions = [version for version in model.versions if named in (version.name, version.uri)] or list(model.versions)
    names = sorted({version.name for version in versions})
    if len(names) > 1:
        raise sdk.StepError(f"the model is registered as {', '.join(names)}: name one of them in the step input 'model'")
    return max(versions, key=lambda version: int(version.version), default=None)


def listed(models: Sequence[Model]) -> str:
    """The models for a message."""
    texts = []
    for model in models[:_LISTED]:
        versions = ", ".join(f"{version.name} {version.version}" for version in model.versions)
        metrics = ", ".join(f"{name}={value:.4g}" for name, value in sorted(model.metrics.items())[:3])
        facts = "; ".join(filter(None, (f"registered as {versions}" if versions else "", metrics)))
        texts.append(f"'{model.name}' of run {model.run_id[:8]}" + (f" ({facts})" if facts else ""))
    more = f" and {len(models) - _LISTED} more" if len(models) > _LISTED else ""
    return ", ".join(texts) + more


def _newest(models: Sequence[Model]) -> list[Model]:
    newest: dict[tuple[str, str], Model] = {}
    for model in sorted(models, key=lambda model: model.created):
        newest[model.run_id, model.name] = model
    return list(newest.values())


def _best(models: Sequence[Model], by: Metric) -> list[Model]:
    sign = 1 if by.largest else -1
    values = [(sign * model.metrics[by.name], model) for model in models if by.name in model.metrics]
    numbers = [(value, model) for value, model in values if not math.isnan(value)]
    if not numbers:
        known = sorted({name for model in models for name in model.metrics})
        close = difflib.get_close_matches(by.name, known, 1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise sdk.StepError(
            f"no model has the metric '{by.name}' of the step input 'metric' (there are: {', '.join(known) or 'none'}){hint}"
        )
    best = max(value for value, _ in numbers)
    return [model for value, model in numbers if value == best]


def of_training(server: tracking.Tracking, run: tracking.Run) -> list[Model]:
    """The models of the run and of the runs that its training started, newest last."""
    runs = {item.id: item for item in server.runs_of(run)}
    versions = server.versions(list(runs))
    found = [_of_mlflow_3(item, runs, versions) for item in server.logged_models(runs.values())]
    known = {(model.run_id, model.name) for model in found}
    for item in runs.values():
        found += [_of_mlflow_2(item, path, order, versions) for path, order in item.history.items() if (item.id, path) not in known]
    taken = {version for model in found for version in model.versions}
    for version in versions:
        if version not in taken:
            found.append(Model(version.name, version.run_id, version.uri, metrics=runs[version.run_id].numbers, versions=(version,)))
    return sorted(found, key=lambda model: model.created)


def _of_mlflow_3(item: Mapping[str, object], runs: Mapping[str, tracking.Run], versions: Sequence[tracking.Version]) -> Model:
    info, data = tracking.mapping(item.get("info")), tracking.mapping(item.get("data"))
    name, run_id, model_id = (str(info.get(key, "")) for key in ("name", "source_run_id", "model_id"))
    uri = f"models:/{model_id}"
    sources = {uri, str(info.get("artifact_uri", "")), f"runs:/{run_id}/{name}"}
    own = {str(metric.get("key")): float(str(metric.get("value"))) for metric in tracking.listed(data.get("metrics"))}
    created = int(str(info.get("creation_timestamp_ms") or 0))
    registered = [version for version in versions if version.source in sources]
    return Model(name, run_id, uri, created, own or runs[run_id].numbers, registered)


def _of_mlflow_2(run: tracking.Run, path: str, order: int, versions: Sequence[tracking.Version]) -> Model:
    uri = f"{run.artifact_uri}/{path}"
    registered = [version for version in versions if version.run_id == run.id and version.source in (uri, f"runs:/{run.id}/{path}")]
    return Model(path, run.id, uri, order, run.numbers, registered)
