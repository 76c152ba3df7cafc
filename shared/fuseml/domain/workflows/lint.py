"""Warnings about valid workflows: probable mistakes of the author. Errors come from `loading.load`.

Some warnings depend on the current bindings of the selectors; without `bindings` they are omitted or worded as possibilities.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import errors, workflows
from fuseml.domain.documents import document, expression
from fuseml.domain.registry.selector import Binding
from fuseml.domain.workflows import deployment, loading, original_lint, original_steps, parameters, references, resource_lint

Bindings = Mapping[str, Mapping[str, Binding]]
Locate = Callable[[document.Path], document.Position | None]

# A key that ends so usually holds a secret; `..._KEY_ID` is the name of a key, not the key.
_SECRET_NAME = re.compile(r"(^|_)(PASSWORD|PASSWD|SECRET|TOKEN|APIKEY|(ACCESS|API|PRIVATE|SECRET)_KEY)$")


@dataclass(frozen=True, slots=True)
class Finding:
    """An error, a warning or a note, with the position of a `Problem`. Only errors prevent storing a workflow; a note is no problem."""

    level: Literal["error", "warning", "note"]
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
    """A selector without a match now, and the explanation of the resolver."""

    step: str
    selector: str
    explanation: str = ""


def lint_text(text: str, bindings: Bindings | None = None, unresolved: Iterable[Unresolved] = ()) -> list[Finding]:
    """The errors of a document or, without errors, its warnings."""
    try:
        parsed = document.parse(text)
        workflow = loading.check(parsed)
    except errors.InvalidError as error:
        return refusals(error)
    return lint(workflow, bindings, unresolved, locate=parsed.position)


def refusals(error: errors.InvalidError) -> list[Finding]:
    """The problems of an invalid document, as findings."""
    problems = error.problems or (errors.Problem("", error.message),)
    return [Finding("error", p.path, p.message, p.line, p.column, p.suggestion) for p in problems]


def lint(
    workflow: workflows.Workflow,
    bindings: Bindings | None = None,
    unresolved: Iterable[Unresolved] = (),
    *,
    locate: Locate = lambda _: None,
) -> list[Finding]:
    """The warnings and notes, in the order of the document. `bindings` is step -> selector -> binding, `locate` maps a path to line and
    column.
    """
    warnings = [
        *original_lint.repetitions(workflow),
        *original_lint.constraints(workflow),
        *original_steps.warnings(workflow),
        *_unused_inputs(workflow),
        *_missing_outputs(workflow),
        *_steps(workflow, bindings or {}),
        *_unresolved(workflow, unresolved),
        *_artifact_patterns(workflow),
        *_scheduled_inputs(workflow),
        *_equal_combinations(workflow),
        *resource_lint.zeros(workflow),
        *_never_reused(workflow),
        *_unasked(workflow),
    ]
    findings = [Finding("warning", document.render_path(path), message, *(locate(path) or (None, None))) for path, message in warnings]
    findings += replacements(workflow, locate)
    findings += [
        Finding("note", document.render_path(path), message, *(locate(path) or (None, None)))
        for path, message in (*_served(workflow), *_parameters(workflow), *resource_lint.devices(workflow), *_moving_artifacts(workflow))
    ]
    return sorted(findings, key=lambda finding: (finding.line or 0, finding.column or 0))


def replacements(workflow: workflows.Workflow, locate: Locate = lambda _: None) -> list[Finding]:
    """The notes about steps whose images the built-in steps replace. `lint` has none of them for a workflow in which they are replaced."""
    return [
        Finding("note", document.render_path(path), message, *(locate(path) or (None, None)))
        for path, message in original_steps.notes(workflow)
    ]


Warning = tuple[document.Path, str]


def _unused_inputs(workflow: workflows.Workflow) -> Iterator[Warning]:
    inputs = {item.name: item.is_codeset for item in workflow.inputs}
    used: set[str] = set()
    for step, scope in references.scopes(workflow):
        used.update(references.mounted_input(mount, inputs) for mount in step.mounts)
        for use in references.texts(step):
            nodes = expression.parse(use.text, scope.knows)
            used.update(node.name for node in nodes if isinstance(node, expression.InputReference))
    group = workflow.concurrency.group if workflow.concurrency else ""
    used.update(node.name for node in expression.parse(group, lambda _: False) if isinstance(node, expression.InputReference))
    for index, item in enumerate(workflow.inputs):
        if item.name not in used:
            yield ("inputs", index, "name"), f"no step uses the input {item.name!r}"


def _missing_outputs(workflow: workflows.Workflow) -> Iterator[Warning]:
    produced = {output.name for step in workflow.steps for output in step.outputs}
    for index, output in enumerate(workflow.outputs):
        if output.name not in produced:
            yield ("outputs", index, "name"), f"no step has an output named {output.name!r}, so this output of the workflow stays empty"


def _steps(workflow: workflows.Workflow, bindings: Bindings) -> Iterator[Warning]:
    for index, (step, scope) in enumerate(references.scopes(workflow)):
        path: document.Path = ("steps", index)
        bound = bindings.get(step.name, {})
        for warning in (*_image(step), *_secrets(step, scope, bound), *_selectors(step, bound), *_conflicts(step, bound)):
            yield (*path, *warning[0]), warning[1]


def _image(step: workflows.Step) -> Iterator[Warning]:
    # A version of a runnable names the image of its author.
    if step.runnable or expression.may_refer(step.image) or "@" in step.image:
        return
    tag = step.image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        problem = "the tag 'latest'" if tag else "no tag"
        yield ("image",), f"the image {step.image!r} has {problem}: runs of the same revision may run different code"


def _secrets(step: workflows.Step, scope: expression.Scope, bound: Mapping[str, Binding]) -> Iterator[Warning]:
    for index, item in enumerate(step.inputs):
        for node in expression.parse(item.value or "", scope.knows):
            if isinstance(node, expression.ExtensionReference) and node.key and _may_be_secret(bound.get(node.selector), node.key):
                verb = "is" if node.selector in bound else "looks like"
                yield (
                    ("inputs", index, "value"),
                    f"{node.key!r} {verb} a secret, and the step has it in its environment under that name already; remove this input",
                )
    for index, variable in enumerate(step.env):
        if variable.value and _SECRET_NAME.search(variable.name.upper()) and not expression.may_refer(variable.value):
            advice = "register it as credentials of an extension and select that"
            yield (
                ("env", index, "value"),
                f"{variable.name!r} looks like a secret, and every reader of the workflow can see it; {advice}",
            )


def _may_be_secret(binding: Binding | None, key: str) -> bool:
    return binding.is_secret(key) if binding else _SECRET_NAME.search(key.upper()) is not None


def _selectors(step: workflows.Step, bound: Mapping[str, Binding]) -> Iterator[Warning]:
    for index, requirement in enumerate(step.extensions):
        criteria = (requirement.extension_id, requirement.service_id, requirement.product, requirement.service_resource)
        if not any((*criteria, requirement.version, requirement.zone, requirement.service_category)):
            yield ("extensions", index), f"the selector {requirement.name!r} has no criteria, so it matches any service"
        binding = bound.get(requirement.name)
        if binding and binding.ambiguous_with:
            others = ", ".join(map(str, binding.ambiguous_with))
            yield (
                ("extensions", index),
                f"the selector {requirement.name!r} is ambiguous: only its id puts {binding.extension_id}/{binding.service_id} "
                f"before {others}",
            )
        if binding and binding.withheld:
            yield (
                ("extensions", index),
                f"the selector {requirement.name!r} binds to {binding.extension_id}/{binding.service_id}: {binding.withheld}",
            )


def _conflicts(step: workflows.Step, bound: Mapping[str, Binding]) -> Iterator[Warning]:
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


def _unresolved(workflow: workflows.Workflow, unresolved: Iterable[Unresolved]) -> Iterator[Warning]:
    paths = {
        (step.name, requirement.name): ("steps", index, "extensions", number)
        for index, step in enumerate(workflow.steps)
        for number, requirement in enumerate(step.extensions)
    }
    for item in unresolved:
        reason = f": {item.explanation}" if item.explanation else ""
        yield paths.get((item.step, item.selector), ("steps",)), f"the selector {item.selector!r} matches nothing now{reason}"


def _artifact_patterns(workflow: workflows.Workflow) -> Iterator[Warning]:
    for index, kind in enumerate(item.kind for item in (workflow.on.subscriptions if workflow.on else ())):
        if kind != "code" and not any(kind in (item.type, item.name) for item in workflow.inputs):
            yield (
                ("on", "patterns", index),
                f"no input has the type {kind!r}, so runs do not get the address of the {kind} that triggered them",
            )


def _scheduled_inputs(workflow: workflows.Workflow) -> Iterator[Warning]:
    if workflow.on and (workflow.on.schedule or workflow.on.extensions):
        cause = "a schedule" if workflow.on.schedule else "a record of the registry"
        for index, item in enumerate(workflow.inputs):
            is_given = not workflow.on.schedule and "extension" in (item.type, item.name)
            if not item.is_codeset and not item.is_optional and not is_given:
                message = f"the input {item.name!r} has no default, and {cause} provides no value: the runs that it triggers will fail"
                yield ("inputs", index, "name"), message


def _served(workflow: workflows.Workflow) -> Iterator[Warning]:
    """The effect of a push to a branch on the applications."""
    serving = deployment.serving_steps(workflow)
    if serving and any(item.is_codeset for item in workflow.inputs):
        deployed = " or ".join(workflow.deploy.refs) if workflow.deploy and workflow.deploy.refs else "the default branch"
        previews = deployment.previewed_steps(workflow)
        left_out = [name for name in serving if name not in previews]
        others = [f"serves a preview by {', '.join(previews)}"] if previews else []
        others += [f"runs without {', '.join(left_out)}"] if left_out else []
        index = next(number for number, step in enumerate(workflow.steps) if step.name == serving[0])
        yield (
            ("deploy",) if workflow.deploy else ("steps", index),
            f"a push to {deployed} serves by {', '.join(serving)}; a push to any other ref {' and '.join(others)}",
        )


def _parameters(workflow: workflows.Workflow) -> Iterator[Warning]:
    """The fate of undeclared inputs."""
    name = parameters.holder(workflow)
    index = next((number for number, item in enumerate(workflow.inputs) if item.name == name), None)
    if index is not None:
        message = f"a run's inputs that the workflow does not declare (-i NAME=VALUE) are parameters of the code, in the input {name!r}"
        yield ("inputs", index, "type"), message


def _equal_combinations(workflow: workflows.Workflow) -> Iterator[Warning]:
    """Names of a matrix that the step does not read."""
    for index, (step, scope) in enumerate(references.scopes(workflow)):
        nodes = (node for use in references.texts(step) for node in expression.parse(use.text, scope.knows))
        used = {node.name for node in nodes if isinstance(node, expression.MatrixReference)}
        for name in step.matrix.values if step.matrix else ():
            if name not in used:
                yield (
                    ("steps", index, "matrix", "values", name),
                    f"the step does not read '{{{{ matrix.{name} }}}}', so combinations differ in name only",
                )


def _never_reused(workflow: workflows.Workflow) -> Iterator[Warning]:
    """Steps with a cache without effect: only a step without approval, all of whose dependencies are reused, can be reused."""
    executed = {step.name for step in workflow.steps if step.approval or not step.cache or _is_anonymous(step)}
    for index, (step, scope) in enumerate(references.scopes(workflow)):
        if not step.cache:
            continue
        if step.approval:
            yield ("steps", index, "cache"), "the step requires an approval in every run, so it is never reused"
            continue
        if _is_anonymous(step):
            yield ("steps", index, "cache"), "the step makes an anonymous artifact, which is for its own run, so it is never reused"
            continue
        nodes = (node for use in references.texts(step) for node in expression.parse(use.text, scope.knows))
        read = [node.step for node in nodes if isinstance(node, expression.OutputReference)]
        dependency = next((name for name in (*step.needs, *read) if name in executed), None)
        if dependency is not None:
            yield ("steps", index, "cache"), f"the step waits for {dependency!r}, which every run executes, so it is never reused"


def _is_anonymous(step: workflows.Step) -> bool:
    return any(output.artifact and output.artifact.anonymous for output in step.outputs)


def _moving_artifacts(workflow: workflows.Workflow) -> Iterator[Warning]:
    """Addresses that name another version later."""
    for index, step in enumerate(workflow.steps):
        for number, item in enumerate(step.inputs):
            if item.artifact and not expression.may_refer(item.artifact.address) and "@" in item.artifact.address.rpartition("/")[2]:
                place: document.Path = ("steps", index, "inputs", number, "artifact", "address")
                yield place, f"each run takes the version that {item.artifact.address} names when it is planned; the plan shows both"


def _unasked(workflow: workflows.Workflow) -> Iterator[Warning]:
    """Evaluators that leave a failure to an approval which no step has."""
    read = {
        node.step
        for step, scope in references.scopes(workflow)
        for use in references.texts(step)
        if "when" in use.path
        for node in expression.parse(use.text, scope.knows)
        if isinstance(node, expression.OutputReference) and node.output == "passed"
    }
    for index, step in enumerate(workflow.steps):
        for number, item in enumerate(step.inputs):
            if item.name == "on-failure" and item.value == "ask" and step.name not in read:
                yield (
                    ("steps", index, "inputs", number, "value"),
                    f"no condition reads the output 'passed' of {step.name!r}, so later steps start although the model does not pass",
                )
