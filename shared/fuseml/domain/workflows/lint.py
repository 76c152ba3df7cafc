"""Warnings over a sound workflow: what will probably not do what its writer means. Errors come from `workflow.load`.

Some warnings need to know what the selectors resolve to now; without `bindings` they are left out or worded as possibilities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors, workflows
from fuseml.domain.documents import document, expression
from fuseml.domain.registry import selector
from fuseml.domain.workflows import loading, references

Bindings = Mapping[str, Mapping[str, selector.Binding]]
Locate = Callable[[document.Path], document.Position | None]

# A key that ends so usually holds a secret; `..._KEY_ID` is the name of a key, not the key.
_SECRET_NAME = re.compile(r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|APIKEY|(ACCESS|API|PRIVATE|SECRET)_KEY)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to look at. The place is that of a `Problem`; only errors keep a workflow from being stored."""

    level: Literal["error", "warning"]
    path: str
    message: str
    line: int | None = None
    column: int | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        problem = errors.Problem(self.path, f"{self.level}: {self.message}", self.line, self.column, self.suggestion)
        return str(problem)


@dataclass(frozen=True, slots=True)
class Unresolved:
    """A selector that matches nothing now, and the resolver's explanation."""

    step: str
    selector: str
    explanation: str = ""


def lint_text(text: str, bindings: Bindings | None = None, unresolved: Iterable[Unresolved] = ()) -> list[Finding]:
    """Errors of a document or, when there are none, its warnings."""
    try:
        parsed = document.parse(text)
        checked = loading.check(parsed)
    except errors.InvalidError as error:
        return refusals(error)
    return lint(checked, bindings, unresolved, locate=parsed.position)


def refusals(error: errors.InvalidError) -> list[Finding]:
    """What keeps a document from being a workflow."""
    problems = error.problems or (errors.Problem("", error.message),)
    return [Finding("error", p.path, p.message, p.line, p.column, p.suggestion) for p in problems]


def lint(
    checked: workflows.Workflow,
    bindings: Bindings | None = None,
    unresolved: Iterable[Unresolved] = (),
    *,
    locate: Locate = lambda _: None,
) -> list[Finding]:
    """The warnings, in the order of the document. `bindings` is step -> selector -> binding, `locate` gives a path's place in the text."""
    warnings = [
        *_unused_inputs(checked),
        *_unmade_outputs(checked),
        *_steps(checked, bindings or {}),
        *_unresolved(checked, unresolved),
        *_listed_artifacts(checked),
        *_scheduled_inputs(checked),
        *_never_reused(checked),
    ]
    places = [locate(path) or (None, None) for path, _ in warnings]
    found = [
        Finding("warning", document.render_path(path), message, *place) for (path, message), place in zip(warnings, places, strict=True)
    ]
    return sorted(found, key=lambda finding: (finding.line or 0, finding.column or 0))


Warning = tuple[document.Path, str]


def _unused_inputs(checked: workflows.Workflow) -> Iterator[Warning]:
    inputs = {item.name: item.is_codeset for item in checked.inputs}
    used: set[str] = set()
    for step, scope in references.scopes(checked):
        used.update(references.mounted_input(mount, inputs) for mount in step.mounts)
        for use in references.texts(step):
            nodes = expression.parse(use.text, scope.knows)
            used.update(node.name for node in nodes if isinstance(node, expression.InputReference))
    group = checked.concurrency.group if checked.concurrency else ""
    used.update(node.name for node in expression.parse(group, lambda _: False) if isinstance(node, expression.InputReference))
    for index, item in enumerate(checked.inputs):
        if item.name not in used:
            yield ("inputs", index, "name"), f"no step uses the input {item.name!r}"


def _unmade_outputs(checked: workflows.Workflow) -> Iterator[Warning]:
    made = {output.name for step in checked.steps for output in step.outputs}
    for index, output in enumerate(checked.outputs):
        if output.name not in made:
            yield ("outputs", index, "name"), f"no step has an output named {output.name!r}, so this output of the workflow stays empty"


def _steps(checked: workflows.Workflow, bindings: Bindings) -> Iterator[Warning]:
    for index, (step, scope) in enumerate(references.scopes(checked)):
        path: document.Path = ("steps", index)
        bound = bindings.get(step.name, {})
        for warning in (*_image(step), *_secrets(step, scope, bound), *_selectors(step, bound), *_conflicts(step, bound)):
            yield (*path, *warning[0]), warning[1]


def _image(step: workflows.Step) -> Iterator[Warning]:
    if expression.may_refer(step.image) or "@" in step.image:
        return
    tag = step.image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        what = "the tag 'latest'" if tag else "no tag"
        yield ("image",), f"the image {step.image!r} has {what}: runs of the same revision may run different code"


def _secrets(step: workflows.Step, scope: expression.Scope, bound: Mapping[str, selector.Binding]) -> Iterator[Warning]:
    for index, item in enumerate(step.inputs):
        for node in expression.parse(item.value or "", scope.knows):
            if isinstance(node, expression.ExtensionReference) and node.key and _may_be_secret(bound.get(node.selector), node.key):
                is_secret = "is" if node.selector in bound else "looks like"
                yield (
                    ("inputs", index, "value"),
                    f"{node.key!r} {is_secret} a secret; the step finds it in its environment under that name without this input",
                )
    for index, variable in enumerate(step.env):
        if variable.value and _SECRET_NAME.search(variable.name.upper()) and not expression.may_refer(variable.value):
            advice = "register it as credentials of an extension and select that"
            yield (
                ("env", index, "value"),
                f"{variable.name!r} looks like a secret, and everybody who may read the workflow reads it; {advice}",
            )


def _may_be_secret(binding: selector.Binding | None, key: str) -> bool:
    return key in binding.secret_keys if binding else _SECRET_NAME.search(key.upper()) is not None


def _selectors(step: workflows.Step, bound: Mapping[str, selector.Binding]) -> Iterator[Warning]:
    for index, requirement in enumerate(step.extensions):
        asked = (requirement.extension_id, requirement.service_id, requirement.product, requirement.service_resource)
        if not any((*asked, requirement.version, requirement.zone, requirement.service_category)):
            yield ("extensions", index), f"the selector {requirement.name!r} asks for nothing, so any service fits it"
        binding = bound.get(requirement.name)
        if binding and binding.ambiguous_with:
            others = ", ".join(map(str, binding.ambiguous_with))
            yield (
                ("extensions", index),
                f"the selector {requirement.name!r} is ambiguous: {binding.extension_id}/{binding.service_id} was taken by its id only, "
                f"{others} fit as well",
            )


def _conflicts(step: workflows.Step, bound: Mapping[str, selector.Binding]) -> Iterator[Warning]:
    overridden = {variable.name for variable in step.env}
    setters: dict[str, tuple[str, object]] = {}
    for index, requirement in enumerate(step.extensions):
        binding = bound.get(requirement.name)
        if not binding:
            continue
        identity = (binding.extension_id, binding.service_id, binding.credentials_id)
        values: dict[str, object] = {**binding.configuration, **{key: (*identity, key) for key in binding.secret_keys}}
        for key, value in sorted(values.items()):
            if key in setters and setters[key][1] != value and key not in overridden:
                message = (
                    f"{requirement.name!r} and {setters[key][0]!r} set {key} to different values; the later one, {requirement.name!r}, wins"
                )
                yield ("extensions", index), message
            setters[key] = (requirement.name, value)


def _unresolved(checked: workflows.Workflow, unresolved: Iterable[Unresolved]) -> Iterator[Warning]:
    places = {
        (step.name, requirement.name): ("steps", index, "extensions", number)
        for index, step in enumerate(checked.steps)
        for number, requirement in enumerate(step.extensions)
    }
    for item in unresolved:
        reason = f": {item.explanation}" if item.explanation else ""
        yield places.get((item.step, item.selector), ("steps",)), f"the selector {item.selector!r} matches nothing now{reason}"


def _listed_artifacts(checked: workflows.Workflow) -> Iterator[Warning]:
    takes_code = any(item.is_codeset for item in checked.inputs)
    for index, pattern in enumerate(checked.on.patterns if checked.on else ()):
        kind = pattern.partition(":")[0]
        if takes_code and kind != "code":
            yield ("on", "patterns", index), f"a {kind} gives no codeset to the workflow's inputs: runs that it starts will fail"
        elif kind != "code" and not any(kind in (item.type, item.name) for item in checked.inputs):
            yield ("on", "patterns", index), f"no input has the type {kind!r}, so runs do not learn which {kind} has started them"


def _scheduled_inputs(checked: workflows.Workflow) -> Iterator[Warning]:
    if checked.on and checked.on.schedule:
        for index, item in enumerate(checked.inputs):
            if not item.is_codeset and item.default is None:
                message = f"the input {item.name!r} has no default, and a schedule gives it no value: runs that it starts will fail"
                yield ("inputs", index, "name"), message


def _never_reused(checked: workflows.Workflow) -> Iterator[Warning]:
    """Steps with a cache that never does anything: a step is reused only if it asks nobody, and if all that it waits for is reused."""
    executed = {step.name for step in checked.steps if step.approval or not step.cache}
    for index, (step, scope) in enumerate(references.scopes(checked)):
        if not step.cache:
            continue
        if step.approval:
            yield ("steps", index, "cache"), "the step asks for an approval each time, so it is never reused"
            continue
        nodes = (node for use in references.texts(step) for node in expression.parse(use.text, scope.knows))
        read = [node.step for node in nodes if isinstance(node, expression.OutputReference)]
        waits = next((name for name in (*step.needs, *read) if name in executed), None)
        if waits is not None:
            yield ("steps", index, "cache"), f"the step waits for {waits!r}, which is executed each time, so it is never reused"
