"""Steps that need not be executed again: what a step's outputs depend on, as a key, and which steps of a plan find theirs.

A key is made of all that a step is given: image, command, environment, conditions, the outputs that it declares, identity and version of
its bindings, and the content that it watches of its codesets. Secrets count by what they are called. What differs from run to run does not
count (the run's name, and the commit: its content does), nor what only says how to execute (resources, retries, timeout).

A step is reused only when every step that it waits for is: its outputs are known then, and nothing that is executed is overtaken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fuseml.domain import plans
from fuseml.domain.plans import replan
from fuseml.domain.workflows import triggers

Outputs = Mapping[str, Mapping[str, str]]
"""Step -> output -> text."""

Fingerprint = Mapping[str, object]
"""What a key is made of, by the names that people know."""

_PER_RUN = frozenset({plans.RUN_VARIABLE, plans.COMMIT_VARIABLE})
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Execution:
    """A run that executed a step, and what the step was made of then."""

    run: str
    fingerprint: Fingerprint


def digest(files: Iterable[tuple[str, int, str]], paths: Sequence[str]) -> str:
    """SHA-256 in hex over those of `files` (path, git mode, object id) that a glob of `paths` matches; without globs, over all.

    The order of the files does not matter. Empty when no file matches: a glob that was mistyped must not look like content that never
    changes.
    """
    kept = sorted(file for file in files if not paths or any(triggers.matches_path(glob, file[0]) for glob in paths))
    return _hash(kept) if kept else ""


def with_content(planned: plans.Plan, content: Callable[[plans.Checkout, Sequence[str]], str]) -> plans.Plan:
    """The plan, with the digests of what its caching steps watch. `content` gives that of a checkout for the globs of a step."""

    def watching(step: plans.StepPlan) -> plans.StepPlan:
        if step.cache is None:
            return step
        found = {checkout.path: content(checkout, step.cache.paths) for checkout in step.checkouts}
        return step.model_copy(update={"cache": step.cache.model_copy(update={"content": found, "not_reused": ""})})

    return planned.model_copy(update={"steps": tuple(map(watching, planned.steps))})


def fingerprint(planned: plans.Plan, step: plans.StepPlan, outputs: Outputs) -> Fingerprint | None:
    """What the step's outputs depend on; None where that cannot be told: an output that it reads is not there, or it watches no file."""
    watched = step.cache.content if step.cache else {}
    reads = [part for part in plans.parts_of(step) if isinstance(part, plans.OutputPart)]
    if any(part.output not in outputs.get(part.step, {}) for part in reads) or not all(watched.get(item.path) for item in step.checkouts):
        return None

    def settled(value: plans.Value) -> list[object]:
        return _settled(value, outputs)

    found: dict[str, object] = {
        "image": settled(step.image),
        "command": [settled(value) for value in step.command],
        "args": [settled(value) for value in step.args],
        "script": settled(step.script),
        "when": [[settled(item.input), item.operator, [settled(value) for value in item.values]] for item in step.when],
        "outputs": [[item.name, item.image and [settled(item.image.name), settled(item.image.dockerfile)]] for item in step.outputs],
    }
    found |= {f"variable {item.name}": settled(item.value) for item in step.variables if item.name not in _PER_RUN}
    for index, checkout in enumerate(step.checkouts):
        found[f"content of {_watched(step, checkout)}"] = [index, watched[checkout.path]]
    for bound in (item.binding for item in planned.bindings if item.step == step.name):
        found[f"extension {bound.name}"] = [bound.extension_id, bound.service_id, bound.credentials_id]
        found[f"version of extension {bound.name}"] = bound.version
    return found


def key(made: Fingerprint) -> str:
    """64 hex digits that are equal for equal fingerprint, and for no others."""
    return _hash(sorted(made.items()))


def executed(planned: plans.Plan, name: str, outputs: Outputs) -> str | None:
    """The key under which others find what the step has put out; None when it cannot be told, or when something was not put out."""
    step = planned.step(name)
    made = fingerprint(planned, step, outputs)
    promised = {output.name for output in step.outputs if output.image is None}
    return key(made) if made is not None and promised <= outputs.get(name, {}).keys() else None


def decide(planned: plans.Plan, find: Callable[[str], replan.StepResult | None], last: Callable[[str], Execution | None]) -> plans.Plan:
    """What is left to execute of a plan whose content is known; each caching step that is left tells why.

    `find` gives what was put out under a key, `last` the last execution of the step of that name.
    """
    reused: dict[str, replan.StepResult] = {}
    reasons: dict[str, str] = {}
    for step in planned.steps:
        if step.cache is None:
            continue
        reason = _obstacle(step, reused)
        made = None if reason else fingerprint(planned, step, {name: done.outputs for name, done in reused.items()})
        done = find(key(made)) if made is not None else None
        if done is not None:
            reused[step.name] = done
        else:
            reasons[step.name] = reason or _difference(made or {}, last(step.name))
    return replan.reuse(_reasoned(planned, reasons), reused)


def declined(planned: plans.Plan, reason: str) -> plans.Plan:
    """The plan as it is: nothing of it may be reused, and `reason` says why."""
    return _reasoned(planned, {step.name: reason for step in planned.steps if step.cache is not None})


def _obstacle(step: plans.StepPlan, reused: Mapping[str, replan.StepResult]) -> str:
    if step.approval:
        return "it asks for an approval each time"
    read = {part.step for part in plans.parts_of(step) if isinstance(part, plans.OutputPart)}
    for name in step.needs:
        if name not in reused:
            return f"it needs the outputs of step {name}, which runs" if name in read else f"it waits for step {name}, which runs"
    for checkout in step.checkouts:
        if step.cache and not step.cache.content.get(checkout.path):
            where = f"{checkout.project}/{checkout.codeset}"
            return f"no file of {where} matches {', '.join(step.cache.paths)}" if step.cache.paths else f"{where} holds no file"
    return ""


def _difference(made: Fingerprint, before: Execution | None) -> str:
    if before is None:
        return "it has not succeeded here with a cache before"
    changed = [name for name in (*made, *before.fingerprint) if made.get(name) != before.fingerprint.get(name)]
    names = list(dict.fromkeys(changed))
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"changed since {before.run}: {', '.join(names[:_MAX_NAMED])}{more}"


def _reasoned(planned: plans.Plan, reasons: Mapping[str, str]) -> plans.Plan:
    steps = (
        step.model_copy(update={"cache": step.cache.model_copy(update={"not_reused": reasons[step.name]})})
        if step.cache is not None and step.name in reasons
        else step
        for step in planned.steps
    )
    return planned.model_copy(update={"steps": tuple(steps)})


def _watched(step: plans.StepPlan, checkout: plans.Checkout) -> str:
    globs = step.cache.paths if step.cache else ()
    return f"{', '.join(globs)} in {checkout.path}" if globs else checkout.path


def _settled(value: plans.Value, outputs: Outputs) -> list[object]:
    """The value with its outputs put in: texts, no two side by side, and references of secrets, each in a list of its own."""
    pieces: list[object] = []
    for part in value:
        if isinstance(part, plans.SecretPart):
            pieces.append([part.ref])
            continue
        text = part.text if isinstance(part, plans.TextPart) else outputs[part.step][part.output]
        if pieces and isinstance(pieces[-1], str):
            pieces[-1] += text
        elif text:
            pieces.append(text)
    return pieces


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
