"""The difference of two runs: code, data, parameters, tools, images, and their results."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fuseml.domain import artifact, plans, urls
from fuseml.domain.artifacts import descriptor
from fuseml.domain.lineage.record import ArtifactRecord, RunRecord, checkouts, consumed, texts

Kind = Literal["workflow", "code", "data", "parameter", "tool", "image", "step", "result", "metric", "output", "artifact"]
RESULTS: frozenset[Kind] = frozenset({"result", "metric", "output", "artifact"})
"""The kinds that a run makes; the others it is given."""

_CALL = ("command", "args", "script")
_OF_RUN = (plans.RUN_VARIABLE, plans.COMMIT_VARIABLE)
"""Variables that differ in any two runs, or with the code."""
_METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact of two runs. A side without it is None."""

    kind: Kind
    name: str
    a: str | None
    b: str | None

    @property
    def equal(self) -> bool:
        """Whether both runs have the same."""
        return self.a == self.b


def compare(a: RunRecord, b: RunRecord) -> list[Difference]:
    """Every fact of the two runs, by kind and name. Equal ones are among them."""
    found: list[Difference] = []
    for kind, facts in _FACTS:
        left, right = facts(a), facts(b)
        found += [Difference(kind, name, left.get(name), right.get(name)) for name in dict.fromkeys((*left, *right))]
    return list(_without_repeated(found))


def _without_repeated(found: Iterable[Difference]) -> Iterator[Difference]:
    """Without the differences of a step's variables that an input, or the data or code of the run, shows already."""
    seen: set[tuple[str | None, str | None]] = set()
    for item in found:
        pair = (item.a, item.b)
        if item.kind == "parameter" and "." in item.name and not item.equal and pair in seen:
            continue
        if item.kind == "data":
            seen.add((f"{item.name}/{item.a}", f"{item.name}/{item.b}"))
        elif item.kind in ("code", "parameter"):
            seen.add(pair)
        yield item


def _workflow(run: RunRecord) -> dict[str, str]:
    return {"name": run.workflow, "revision": str(run.revision)}


def _code(run: RunRecord) -> dict[str, str]:
    addresses = [*checkouts(run), *([run.code] if run.code else [])]
    parsed = [artifact.Address.parse(address) for address in addresses]
    return {f"{item.project}/{item.name}": item.version for item in parsed}


def _data(run: RunRecord) -> dict[str, str]:
    """The artifacts that the run was given, apart from its code: a name may be there in several versions."""
    found: dict[str, list[str]] = {}
    for address in consumed(run):
        item = artifact.Address.parse(address)
        if item.kind != "code":
            found.setdefault(f"{item.kind}://{item.project}/{item.name}", []).append(item.version)
    return {name: ", ".join(versions) for name, versions in found.items()}


def _parameters(run: RunRecord) -> dict[str, str]:
    """The inputs of the workflow, then the variables of each step (`step.NAME`)."""
    found = dict(run.plan.inputs if run.plan else run.inputs)
    for step, places in texts(run).items():
        for place, text in places.items():
            _, mark, name = place.partition("variables.")
            if mark and name not in _OF_RUN:
                found[f"{step}.{name}"] = text
    return found


def _tools(run: RunRecord) -> dict[str, str]:
    """The facts of each binding (`step.binding.fact`). Secrets are in no binding."""
    found: dict[str, str] = {}
    for item in run.plan.bindings if run.plan else ():
        binding = item.binding
        facts = {
            "service": f"{binding.extension_id}/{binding.service_id}",
            "product": binding.product,
            "version": binding.version,
            "zone": binding.zone,
            "url": urls.shown(binding.url),
            "credentials": binding.credentials_id,
            **{f"configuration.{key}": urls.shown(value) for key, value in binding.configuration.items()},
        }
        found |= {f"{item.step}.{binding.name}.{name}": value for name, value in facts.items() if value}
    return found


def _images(run: RunRecord) -> dict[str, str]:
    return {step: places["image"] for step, places in texts(run).items() if "image" in places}


def _steps(run: RunRecord) -> dict[str, str]:
    """The command, the arguments and the script of each step that the run executed."""
    executed = {step.name for step in run.plan.steps} if run.plan else set()
    return {
        f"{step}.{place}": places[place] for step, places in texts(run).items() if step in executed for place in _CALL if place in places
    }


def _results(run: RunRecord) -> dict[str, str]:
    return {"state": run.state, **{step.name: step.state for step in run.steps}}


def _step_metrics(run: RunRecord) -> dict[str, str]:
    return {f"{step.name}.{name}": value for step in run.steps for name, value in _metrics(step.outputs.get(_METRICS, "")).items()}


def _outputs(run: RunRecord) -> dict[str, str]:
    """The outputs of steps that name no artifact of the run and hold no metrics."""
    found: dict[str, str] = {}
    for step in run.steps:
        for name, value in step.outputs.items():
            if not (_names_product(run, value) or (name == _METRICS and _metrics(value))):
                found[f"{step.name}.{name}"] = value
    return found


def _names_product(run: RunRecord, value: str) -> bool:
    address = artifact.named_in(run.project, value) or artifact.model_of(run.project, value)
    return address is not None and str(address) in {item.address for item in run.products}


def _artifacts(run: RunRecord) -> dict[str, str]:
    """The digest of each artifact that the run made, or its version where no digest is known."""
    found: dict[str, list[str]] = {}
    for item in run.products:
        address = artifact.Address.parse(item.address)
        name = f"{item.step or 'run'}: {address.kind}://{address.project}/{address.name}"
        found.setdefault(name, []).append(_digest(run, item) or f"version {address.version}, without a digest")
    return {name: ", ".join(digests) for name, digests in found.items()}


def _digest(run: RunRecord, item: ArtifactRecord) -> str | None:
    """The digest of the contents that this run has made: a dataset at a known address keeps the record of its first run."""
    reported = [descriptor.digest_of(step.outputs.get("digest")) for step in run.steps if item.address in step.outputs.values()]
    return next(filter(None, reported), item.digest)


def _metrics(text: str) -> dict[str, str]:
    """The numbers of an output `metrics`; empty for an output of another shape."""
    try:
        loaded: Any = json.loads(text or "{}")
    except ValueError:
        return {}
    if not isinstance(loaded, dict):
        return {}
    numbers = {name: value for name, value in loaded.items() if isinstance(value, (int, float)) and not isinstance(value, bool)}
    return {str(name): repr(value) for name, value in numbers.items() if math.isfinite(value)}


_FACTS: tuple[tuple[Kind, Callable[[RunRecord], Mapping[str, str]]], ...] = (
    ("workflow", _workflow),
    ("code", _code),
    ("data", _data),
    ("parameter", _parameters),
    ("tool", _tools),
    ("image", _images),
    ("step", _steps),
    ("result", _results),
    ("metric", _step_metrics),
    ("output", _outputs),
    ("artifact", _artifacts),
)
