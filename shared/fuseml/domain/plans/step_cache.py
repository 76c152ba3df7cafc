"""The cache of steps: the key of a step covers everything that its outputs depend on, and a step with a known key is reused.

A key is made by exclusion: it covers every field of the step's plan, except those of `NOT_IN_KEY` and the variables that differ from run to
run. It also covers the watched content of the step's codesets, identity and version of its bindings, and its devices. A secret counts by its
reference, not by its value; the token of a step is its own under any name. Defaults of an engine belong neither to a plan nor to a key: after a
change of `FUSEML_TRAINER_IMAGE` in the settings of a cluster, images that were built on the former one are reused until the content changes or a
run is requested without the cache.

A step is reused only when every step that it waits for is reused: then the outputs that it reads are known, and no executed step is
overtaken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fuseml.domain import plans
from fuseml.domain.documents import document
from fuseml.domain.plans import replan
from fuseml.domain.workflows import resources, triggers

Outputs = Mapping[str, Mapping[str, str]]
"""Step -> output -> text."""

Fingerprint = Mapping[str, object]
"""The content of a key, by names for people."""

_OF_EXECUTION = "how the step is executed does not change its outputs"
_OF_VERSION = "the version in the address names the contents for ever; identity and version of the store's binding are in the key"
_OF_CONTENT = "the content of the codeset is in the key, wherever and under whichever commit it is found"

NOT_IN_KEY: Mapping[str, str] = {
    "name": "the step reads its name from a variable, which is in the key",
    "needs": "the values of the step hold the outputs that it reads of other steps, and they are in the key",
    "retries": _OF_EXECUTION,
    "timeout": _OF_EXECUTION,
    "resources": "processor and memory do not change outputs; the devices among the limits are in the key by name",
    "approval": "a step that asks for an approval is never reused",
    "checkouts.name": _OF_CONTENT,
    "checkouts.project": _OF_CONTENT,
    "checkouts.codeset": _OF_CONTENT,
    "checkouts.url": _OF_CONTENT,
    "checkouts.ref": _OF_CONTENT,
    "checkouts.commit": _OF_CONTENT,
    "checkouts.own": _OF_CONTENT,
    "checkouts.pinned": _OF_CONTENT,
    "fetches.asked": _OF_VERSION,
    "fetches.uri": _OF_VERSION,
    "fetches.stored": "a copy has the contents of the version in the address",
    "fetches.store": _OF_VERSION,
    "collects.source": "only a step that builds an image has one, and such a step is not reused: its image is found by it",
    "collects.store": "identity and version of the store's binding are in the key",
    "outputs.type": "a text of another type fails the step, and only succeeded steps are reused",
    "cache.not_reused": "it is the result of the look-up",
    "combination": "the values of the step hold those of its combination that it reads",
}
"""Fields of a step's plan that are not in its key -> the reason."""

_PER_RUN = frozenset({plans.RUN_VARIABLE, plans.COMMIT_VARIABLE})
# Fields whose entries get a name of their own, for people.
_NAMED_APART = frozenset({"variables", "files", "checkouts", "cache", "runnable"})
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Execution:
    """A run that executed a step, and the step's fingerprint in that run."""

    run: str
    fingerprint: Fingerprint


def digest(files: Iterable[tuple[str, int, str]], paths: Sequence[str]) -> str:
    """SHA-256 in hex over those of `files` (path, git mode, object id) that match a glob of `paths`; without globs, over all.

    The order of the files does not matter. Empty when no file matches: a mistyped glob must not look like content that never changes.
    """
    kept = sorted(file for file in files if not paths or any(triggers.matches_path(glob, file[0]) for glob in paths))
    return _hash(kept) if kept else ""


def with_content(plan: plans.Plan, content: Callable[[plans.Checkout, Sequence[str]], str]) -> plans.Plan:
    """The plan with the digests of the watched content. `content` returns the digest of a checkout for the globs of a step."""

    def with_digests(step: plans.StepPlan) -> plans.StepPlan:
        if step.cache is None:
            return step
        digests = {checkout.path: content(checkout, step.cache.paths) for checkout in step.checkouts}
        return step.model_copy(update={"cache": step.cache.model_copy(update={"content": digests, "not_reused": ""})})

    return plan.model_copy(update={"steps": tuple(map(with_digests, plan.steps))})


def fingerprint(plan: plans.Plan, step: plans.StepPlan, outputs: Outputs) -> Fingerprint | None:
    """Everything that the step's outputs depend on; None when an output that it reads is unknown, or when it watches no file."""
    watched = step.cache.content if step.cache else {}
    reads = [part for part in plans.parts_of(step) if isinstance(part, plans.OutputPart)]
    if any(part.output not in outputs.get(part.step, {}) for part in reads) or not all(watched.get(item.path) for item in step.checkouts):
        return None
    entries = {name: _settled(value, outputs, name) for name, value in _counted(step) if name not in _NAMED_APART}
    entries |= {f"variable {item.name}": _text(item.value, outputs) for item in step.variables if item.name not in _PER_RUN}
    entries |= {f"file {item.name}": [item.variable, item.text] for item in step.files}
    if step.runnable:
        # The author of a runnable makes a version for a change that its image does not show.
        entries["runnable"] = step.runnable
    for index, checkout in enumerate(step.checkouts):
        others = [value for name, value in _counted(checkout, "checkouts") if name != "path"]
        entries[f"content of {_watched(step, checkout)}"] = [index, watched[checkout.path], *others]
    # On a GPU a builder makes another environment, and a training has other results.
    entries |= {f"number of {resource}": number for resource, number in resources.devices(step.resources.limits).items()}
    for bound in (item.binding for item in plan.bindings if item.step == step.name):
        entries[f"extension {bound.name}"] = [bound.extension_id, bound.service_id, bound.credentials_id]
        entries[f"version of extension {bound.name}"] = bound.version
    return entries


def key(fingerprint: Fingerprint) -> str:
    """64 hex digits, equal for equal fingerprints only."""
    return _hash(sorted(fingerprint.items()))


def key_of_executed(plan: plans.Plan, name: str, outputs: Outputs) -> str | None:
    """The key under which later runs find the outputs of the step; None without a fingerprint, or when an output was not written."""
    step = plan.step(name)
    current = fingerprint(plan, step, outputs)
    declared = {output.name for output in step.outputs if output.image is None}
    return key(current) if current is not None and declared <= outputs.get(name, {}).keys() else None


def decide(plan: plans.Plan, find: Callable[[str], replan.StepResult | None], last: Callable[[str], Execution | None]) -> plans.Plan:
    """The plan with only the steps to execute, each caching step with the reason. The digests of the content must be in it (`with_content`).

    `find` returns the result that is cached under a key, `last` the last execution of the step of that name.
    """
    reused: dict[str, replan.StepResult] = {}
    reasons: dict[str, str] = {}
    for step in plan.steps:
        if step.cache is None:
            continue
        reason = _obstacle(step, reused)
        current = None if reason else fingerprint(plan, step, {name: result.outputs for name, result in reused.items()})
        result = find(key(current)) if current is not None else None
        if result is not None:
            reused[step.name] = result
        else:
            reasons[step.name] = reason or _difference(current or {}, last(step.name))
    return replan.reuse(_with_reasons(plan, reasons), reused)


def without_reuse(plan: plans.Plan, reason: str) -> plans.Plan:
    """The whole plan, with `reason` in each caching step."""
    return _with_reasons(plan, {step.name: reason for step in plan.steps if step.cache is not None})


def _obstacle(step: plans.StepPlan, reused: Mapping[str, replan.StepResult]) -> str:
    if step.approval:
        return "it asks for an approval each time"
    if any(item.anonymous for item in step.collects):
        return "its anonymous artifacts are for its own run"
    read = {part.step for part in plans.parts_of(step) if isinstance(part, plans.OutputPart)}
    for name in step.needs:
        if name not in reused:
            return f"it needs the outputs of step {name}, which runs" if name in read else f"it waits for step {name}, which runs"
    for checkout in step.checkouts:
        if step.cache and not step.cache.content.get(checkout.path):
            where = f"{checkout.project}/{checkout.codeset}"
            return f"no file of {where} matches {', '.join(step.cache.paths)}" if step.cache.paths else f"{where} holds no file"
    return ""


def _difference(current: Fingerprint, before: Execution | None) -> str:
    if before is None:
        return "no cached execution of this step exists"
    changed = [name for name in (*current, *before.fingerprint) if current.get(name) != before.fingerprint.get(name)]
    names = list(dict.fromkeys(changed))
    if not names:
        return f"the key of {before.run} was made by another version of FuseML"
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"changed since {before.run}: {', '.join(names[:_MAX_NAMED])}{more}"


def _with_reasons(plan: plans.Plan, reasons: Mapping[str, str]) -> plans.Plan:
    steps = (
        step.model_copy(update={"cache": step.cache.model_copy(update={"not_reused": reasons[step.name]})})
        if step.cache is not None and step.name in reasons
        else step
        for step in plan.steps
    )
    return plan.model_copy(update={"steps": tuple(steps)})


def _watched(step: plans.StepPlan, checkout: plans.Checkout) -> str:
    globs = step.cache.paths if step.cache else ()
    return f"{', '.join(globs)} in {checkout.path}" if globs else checkout.path


def _counted(model: document.Model, path: str = "") -> Iterator[tuple[str, object]]:
    """The fields of the model at `path` of the step's plan that are in the key, in the order of the model, with their values."""
    names = type(model).model_fields
    return ((name, getattr(model, name)) for name in names if (f"{path}.{name}" if path else name) not in NOT_IN_KEY)


def _settled(item: object, outputs: Outputs, path: str) -> object:
    """The value at `path` of the step's plan as JSON: models and tuples become lists, and outputs are put in."""
    if isinstance(item, document.Model):
        return [_settled(value, outputs, f"{path}.{name}") for name, value in _counted(item, path)]
    if isinstance(item, tuple):
        is_value = all(isinstance(part, plans.TextPart | plans.OutputPart | plans.SecretPart) for part in item)
        return _text(item, outputs) if is_value else [_settled(value, outputs, path) for value in item]
    return item


def _text(value: plans.Value, outputs: Outputs) -> list[object]:
    """A value with its outputs put in: texts, no two side by side, and references of secrets, each in a list of its own."""
    pieces: list[object] = []
    for part in value:
        if isinstance(part, plans.SecretPart):
            # Combinations of a matrix are numbered: another number alone does not change the outputs.
            pieces.append(["token"] if part.token_of else [part.ref, *filter(None, [part.path])])
            continue
        text = part.text if isinstance(part, plans.TextPart) else outputs[part.step][part.output]
        if pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        elif text:
            pieces.append(text)
    return pieces


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
