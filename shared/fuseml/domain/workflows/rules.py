"""The consistency rules of a workflow: names, references, the order of steps, and the formats that engines accept.

All rules are checked, whatever the results of the others, and every problem has a position. A hole (`expression.HOLE`) replaces a value
that violates the schema: neither holes nor references to them are reported again.
"""

from __future__ import annotations

import graphlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from fuseml.domain import errors
from fuseml.domain.artifacts import conditions, subscription
from fuseml.domain.documents import document, expression
from fuseml.domain.labels import AUXILIARY_PREFIX
from fuseml.domain.registry import constraint
from fuseml.domain.workflows import (
    artifact_rules,
    matrix_rules,
    parameters,
    references,
    registry_triggers,
    resources,
    schedule,
    step_names,
    triggers,
)
from fuseml.domain.workflows.models import PARAMETERS, CodesetMount, Deploy, On, Step, Workflow

Locate = Callable[[document.Path], document.Position | None]

# `/workflows/runs`, `/workflows/assignments` and `/workflows/schema` are routes of the API.
RESERVED_NAMES = frozenset({"assignments", "runs", "schema"})

MAX_STEPS = 2_000

_OUTPUT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_VARIABLE_NAME = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_OUTPUT_RULE = "letters, digits, '-' and '_', at most 100, beginning and ending with a letter or digit"
_IDENTIFIER_RULE = "letters, digits, '-' and '_', at most 100, not beginning with '-'"

_RUNNABLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}(?:@.+)?")

_NEWLINE = "\n"
_SELECTOR_FIELDS = ("extension_id", "service_id", "product", "zone", "service_resource", "service_category")


class _Report:
    """Collects problems with their positions in the text."""

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self.problems: list[errors.Problem] = []
        self.nearest = document.Suggestions().nearest

    @property
    def full(self) -> bool:
        """Whether the list has reached its limit, so that costly rules can stop."""
        return len(self.problems) > document.MAX_PROBLEMS

    def add(self, path: document.Path, message: str, suggestion: str | None = None) -> None:
        line, column = self._locate(path) or (None, None)
        self.problems.append(errors.Problem(document.render_path(path), message, line, column, suggestion))

    def line(self, path: document.Path) -> str:
        """`line 12`, or the path where there is no text."""
        place = self._locate(path)
        return f"line {place[0]}" if place else document.render_path(path)

    def check(self, path: document.Path, read: Callable[[str], object], text: str) -> None:
        """Report the problems that `read` raises for `text`."""
        try:
            read(text)
        except errors.InvalidError as error:
            self.refused(path, error)

    def refused(self, path: document.Path, error: errors.InvalidError) -> None:
        """Report each problem of an error."""
        for problem in error.problems or (errors.Problem("", error.message),):
            self.add(path, problem.message, problem.suggestion)

    def repeated(self, path: document.Path, first: document.Path, subject: str) -> None:
        """Report a name that is used twice."""
        self.add(path, f"{subject} is repeated, in {self.line(first)} and {self.line(path)}; rename or remove one")


def problems(workflow: Workflow, locate: Locate) -> list[errors.Problem]:
    """All violations of the rules by a workflow that its schema accepts, in no particular order."""
    report = _Report(locate)
    number = len(workflow.executed)
    if number > MAX_STEPS:
        counted = " with the combinations of their matrices and the steps that rank them" if number > len(workflow.steps) else ""
        report.add(("steps",), f"a workflow has at most {MAX_STEPS} steps; this one has {number}{counted}")
        return report.problems
    _check_header(workflow, report)
    inputs = {item.name: item.is_codeset for item in workflow.inputs}
    for index, step in enumerate(workflow.steps):
        if report.full:
            break
        _check_step(step, ("steps", index), inputs, report)
    _check_combinations(workflow, report)
    _check_references(workflow, report)
    return report.problems


def _check_header(workflow: Workflow, report: _Report) -> None:
    _check_name(("name",), workflow.name, document.IDENTIFIER, _IDENTIFIER_RULE, report)
    if workflow.name in RESERVED_NAMES:
        report.add(("name",), f"{workflow.name!r} is reserved for the API and cannot name a workflow")
    repetitions = references.repetitions(workflow.inputs)
    names = (expression.HOLE if index in repetitions else item.name for index, item in enumerate(workflow.inputs))
    _check_names(("inputs",), "input", names, document.IDENTIFIER, _IDENTIFIER_RULE, report)
    for index, item in enumerate(workflow.inputs):
        if item.default and expression.holds_expression(item.default):
            report.add(("inputs", index, "default"), "a default is plain text and cannot hold an expression")
    _check_parameters(workflow, report)
    _check_names(("outputs",), "output", (item.name for item in workflow.outputs), _OUTPUT_NAME, _OUTPUT_RULE, report)
    rule = "lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit"
    _check_names(("steps",), "step", (step.name for step in workflow.steps), step_names.RULE, rule, report)
    if not workflow.steps:
        report.add(("steps",), "a workflow needs at least one step")
    if workflow.on:
        _check_triggers(workflow.on, report)
    if workflow.deploy:
        _check_deploy(workflow.deploy, report)
    if workflow.concurrency and workflow.concurrency.group:
        _check_group(workflow.concurrency.group, {item.name: item.is_codeset for item in workflow.inputs}, report)


def _check_parameters(workflow: Workflow, report: _Report) -> None:
    holders = [index for index, item in enumerate(workflow.inputs) if item.type == PARAMETERS]
    for index in holders[1:]:
        first = report.line(("inputs", holders[0]))
        report.add(
            ("inputs", index, "type"), f"one input takes the parameters of the code, and that of {first} has the type {PARAMETERS!r}"
        )
    for index in holders[:1]:
        report.check(("inputs", index, "default"), parameters.parse, workflow.inputs[index].default or "")


def _check_group(group: str, inputs: Mapping[str, bool], report: _Report) -> None:
    path: document.Path = ("concurrency", "group")
    if not expression.holds_expression(group):
        _check_name(path, group, document.IDENTIFIER, _IDENTIFIER_RULE, report)
        return
    scope = expression.Scope(inputs, {})
    nodes, unreadable = expression.read(group, scope.knows)
    for problem in unreadable:
        report.add(path, problem.message, problem.suggestion)
    for node in nodes:
        if isinstance(node, expression.InputReference):
            refusal = scope.refusal(node, report.nearest)
            if refusal:
                report.add(path, refusal.message, refusal.suggestion)
        elif not isinstance(node, expression.Literal):
            report.add(path, f"'{{{{ {node} }}}}' has no value when a run is created; a group may refer to inputs only")


def _check_deploy(deploy: Deploy, report: _Report) -> None:
    for index, glob in enumerate(deploy.refs):
        report.check(("deploy", "refs", index), triggers.check_ref, glob)


def _check_triggers(on: On, report: _Report) -> None:
    if on.push:
        for index, glob in enumerate(on.push.refs):
            report.check(("on", "push", "refs", index), triggers.check_ref, glob)
        for index, glob in enumerate(on.push.paths):
            report.check(("on", "push", "paths", index), triggers.check_path, glob)
    for index, item in enumerate(on.patterns):
        path: document.Path = ("on", "patterns", index)
        if isinstance(item, str):
            report.check(path, subscription.parse, item)
        else:
            report.check((*path, "pattern"), subscription.parse, item.pattern)
            if item.metrics:
                report.check((*path, "metrics"), conditions.comparisons, item.metrics)
            if item.metrics and item.pattern.startswith("code:"):
                report.add((*path, "pattern"), "code has no metrics; write the pattern alone, and select pushes by `on.push`")
    for index, trigger in enumerate(on.extensions):
        path = ("on", "extensions", index)
        if not registry_triggers.criteria(trigger):
            report.add(path, "needs a criterion, such as resource: s3")
        if trigger.version:
            report.check((*path, "version"), constraint.accept, trigger.version)
    if on.schedule:
        report.check(("on", "schedule"), schedule.parse, on.schedule)


def _check_name(path: document.Path, name: str, legal: re.Pattern[str], rule: str, report: _Report) -> None:
    if name != expression.HOLE and (not legal.fullmatch(name) or len(name) > 100):
        report.add(path, f"{name[:100]!r} is not a valid name: {rule}")


def _check_names(
    path: document.Path, what: str, names: Iterable[str], legal: re.Pattern[str], rule: str, report: _Report, *, key: str = "name"
) -> None:
    first: dict[str, document.Path] = {}
    for index, name in enumerate(names):
        place = (*path, index, key)
        if name == expression.HOLE:
            continue
        if name in first:
            report.repeated(place, first[name], f"the {what} {name!r}")
        else:
            _check_name(place, name, legal, rule, report)
            first[name] = place


def _check_step(step: Step, path: document.Path, inputs: Mapping[str, bool], report: _Report) -> None:
    if step.name.startswith(AUXILIARY_PREFIX):
        report.add((*path, "name"), f"names with the prefix {AUXILIARY_PREFIX!r} are reserved for steps that engines add")
    _check_inputs(step, path, inputs, report)
    _check_names((*path, "outputs"), "output", (item.name for item in step.outputs), _OUTPUT_NAME, _OUTPUT_RULE, report)
    _check_names((*path, "extensions"), "extension", (item.name for item in step.extensions), document.IDENTIFIER, _IDENTIFIER_RULE, report)
    rule = "letters, digits, '_', '-' and '.', not beginning with a digit"
    _check_names((*path, "env"), "variable", (item.name for item in step.env), _VARIABLE_NAME, rule, report)
    for index, requirement in enumerate(step.extensions):
        for field in _SELECTOR_FIELDS:
            if expression.holds_expression(getattr(requirement, field)):
                report.add((*path, "extensions", index, field), "a selector is plain text and cannot hold an expression")
    amounts = [*step.resources.requests.values(), *step.resources.limits.values()]
    pending = frozenset(amount for amount in amounts if expression.holds_expression(amount))
    for (kind, resource), message in resources.faults(step.resources.requests, step.resources.limits, pending):
        report.add((*path, "resources", kind, resource), message)
    _check_program(step, path, report)
    if step.script and step.command:
        report.add((*path, "script"), "a step runs a script or a command, not both")
    _check_cache(step, path, report)
    for place, message in (*matrix_rules.violations(step), *artifact_rules.violations(step)):
        report.add((*path, *place), message)


def _check_program(step: Step, path: document.Path, report: _Report) -> None:
    """The image or the runnable of the step."""
    if not step.runnable.strip():
        if not step.image.strip():
            report.add((*path, "image"), "a step needs an image, or a runnable")
    elif step.image:
        report.add((*path, "runnable"), "a step has an image or a runnable, not both")
    elif not _RUNNABLE.fullmatch(step.runnable):
        report.add(
            (*path, "runnable"), f"{step.runnable[:100]!r} is not a runnable; write its name, or with a constraint: trainer, trainer@^1.2"
        )
    elif "@" in step.runnable:
        report.check((*path, "runnable"), constraint.parse, step.runnable.partition("@")[2])


def _check_cache(step: Step, path: document.Path, report: _Report) -> None:
    if step.cache is None or isinstance(step.cache, bool):
        return
    if not step.watched:
        report.add((*path, "cache", "paths"), "list the relevant files, or write `cache: true` for all files")
    elif not step.mounts:
        report.add((*path, "cache", "paths"), "the step has no codeset and thus no relevant files; write `cache: true`")
    for index, glob in enumerate(step.watched):
        report.check((*path, "cache", "paths", index), triggers.check_path, glob)


def _check_inputs(step: Step, path: document.Path, inputs: Mapping[str, bool], report: _Report) -> None:
    paths: dict[str, document.Path] = {}
    for index, item in enumerate(step.inputs):
        place = (*path, "inputs", index)
        given = [item.value is not None, item.codeset is not None, item.artifact is not None]
        if sum(given) > 1:
            report.add(place, "an input is a value, a codeset or an artifact, and only one of them")
        elif not any(given):
            report.add(place, 'an input needs a value (value: "" for an empty one), a codeset or an artifact')
        elif item.file and item.value is None:
            report.add((*place, "file"), "only a value is the content of a file")
        elif item.codeset:
            _check_mount(item.codeset, (*place, "codeset"), inputs, report)
            mounted = item.codeset.path.rstrip("/")
            if mounted in paths:
                report.add(place, f"this codeset and that of {report.line(paths[mounted])} are checked out at the same path, {mounted}")
            paths.setdefault(mounted, place)
    _check_input_names(step, path, report)


def _check_input_names(step: Step, path: document.Path, report: _Report) -> None:
    names: dict[str, document.Path] = {}
    variables: dict[str, tuple[str, document.Path]] = {}
    repetitions = references.repetitions(step.inputs)
    for index, item in enumerate(step.inputs):
        place = (*path, "inputs", index, "name")
        if index in repetitions:
            continue
        if item.name in names:
            report.repeated(place, names[item.name], f"the input {item.name!r}")
        elif item.codeset and not item.name:
            continue
        else:
            _check_name(place, item.name, document.IDENTIFIER, _IDENTIFIER_RULE, report)
            for variable in [] if item.codeset else references.variables(item):
                if variable in variables:
                    other, where = variables[variable]
                    message = (
                        f"the inputs {item.name!r} and {other!r} ({report.line(where)}) both become the variable {variable}; rename one"
                    )
                    report.add(place, message)
                variables.setdefault(variable, (item.name, place))
            names[item.name] = place


def _check_mount(mount: CodesetMount, path: document.Path, inputs: Mapping[str, bool], report: _Report) -> None:
    if not expression.holds_expression(mount.path) and not is_checkout_path(mount.path):
        report.add((*path, "path"), f"{mount.path!r} is not an absolute path below /, such as /project")
    if not expression.holds_expression(mount.folder) and not is_folder(mount.folder):
        report.add((*path, "folder"), f"{mount.folder!r} is not a folder of the codeset, relative to its root, such as services/churn")
    try:
        name = references.mounted_input(mount, inputs)
    except errors.InvalidError as error:
        report.refused((*path, "name"), error)
        return
    if name == expression.HOLE or (name not in inputs and expression.HOLE in inputs):
        return
    if not inputs.get(name):
        codesets = [other for other, is_codeset in inputs.items() if is_codeset and other != expression.HOLE]
        reason = "is an input, but not of the type codeset" if name in inputs else "is not an input"
        hint = "" if codesets else "; declare one with `type: codeset` under `inputs`"
        report.add((*path, "name"), f"{name!r} {reason}{hint}", report.nearest(name, codesets))


def is_checkout_path(path: str) -> bool:
    """Whether a codeset can be checked out at the path: absolute, below the root, without `..`."""
    return path.startswith("/") and path.strip("/") != "" and ".." not in path.split("/") and "\0" not in path


def is_folder(path: str) -> bool:
    """Whether the path can be a folder of a codeset: relative, without `..`; empty for the whole codeset."""
    return not path.startswith("/") and ".." not in path.split("/") and not any(character in path for character in "\0\n\\")


def _check_combinations(workflow: Workflow, report: _Report) -> None:
    """The names of combinations, which are steps of a run."""
    index = {step.name: number for number, step in enumerate(workflow.steps)}
    for step in workflow.steps:
        for name in step.combinations:
            if name in index:
                report.add(("steps", index[name], "name"), f"{name!r} is the name of a combination of step {step.name!r}; rename one")


def _check_references(workflow: Workflow, report: _Report) -> None:
    """Expressions, `needs`, the order of the steps, and the producers of the workflow's outputs."""
    index: dict[str, int] = {}
    for number, step in enumerate(workflow.steps):
        index.setdefault(step.name, number)
    waits: dict[str, list[str]] = {name: [] for name in index}
    uses: list[tuple[document.Path, str, expression.OutputReference]] = []
    for number, (step, scope) in enumerate(references.scopes(workflow)):
        path: document.Path = ("steps", number)
        for use in references.texts(step):
            if report.full or not expression.may_refer(use.text):
                continue
            for reference in _valid_references(use, (*path, *use.path), scope, report):
                if not isinstance(reference, expression.OutputReference) or reference.step not in index:
                    continue
                if reference.step == step.name:
                    report.add((*path, *use.path), f"'{{{{ {reference} }}}}' is an output of the step itself")
                    continue
                uses.append(((*path, *use.path), step.name, reference))
                waits[step.name].append(reference.step)
        waits[step.name] += _valid_needs(step, path, index, report)
    circular = _check_cycles(waits, index, report)
    for path, name, reference in uses:
        if (name, reference.step) not in circular and index[reference.step] > index[name]:
            report.add(path, f"'{{{{ {reference} }}}}' refers to a later step; move step {reference.step!r} above {name!r}")
    for place, message in artifact_rules.unknown_stores(workflow):
        report.add(place, message)
    _check_producers(workflow, report)


def _valid_references(use: references.Use, path: document.Path, scope: expression.Scope, report: _Report) -> Iterator[expression.Reference]:
    nodes, problems = expression.read(use.text, scope.knows)
    for problem in problems:
        report.add(path, _line_of(use.text, (problem.column or 1) - 1) + problem.message, problem.suggestion)
    for node in nodes:
        if isinstance(node, expression.Literal):
            continue
        where = _line_of(use.text, node.start)
        refusal = scope.refusal(node, report.nearest)
        if refusal:
            report.add(path, where + refusal.message, refusal.suggestion)
            continue
        yield node
        if isinstance(node, expression.ExtensionReference) and node.key and use.place != "value":
            message = f"'{{{{ {node} }}}}' may be a secret; secrets are allowed in `env` and in the values of `inputs` only"
            report.add(path, where + message)
        elif isinstance(node, expression.OutputReference) and use.place == "fixed":
            report.add(path, f"{where}'{{{{ {node} }}}}' has no value before its step ends, and this field needs one when the run starts")
        elif isinstance(node, expression.MatrixReference) and use.path[0] in ("matrix", "when"):
            reason = "a condition decides about all combinations" if use.path[0] == "when" else "the values make the combinations"
            report.add(path, f"{where}'{{{{ {node} }}}}' is the value of one combination, and {reason}")


def _line_of(text: str, start: int) -> str:
    # A long script has one position in the document, so the message names the line within it.
    return f"line {text.count(_NEWLINE, 0, start) + 1} of the text: " if _NEWLINE in text.rstrip() else ""


def _valid_needs(step: Step, path: document.Path, steps: Mapping[str, int], report: _Report) -> list[str]:
    needs = []
    for index, name in enumerate(step.needs):
        if name == step.name:
            report.add((*path, "needs", index), "a step cannot wait for itself")
        elif name in steps:
            needs.append(name)
        elif name != expression.HOLE and expression.HOLE not in steps:
            report.add((*path, "needs", index), f"there is no step {name!r}", report.nearest(name, list(steps)))
    return needs


def _check_cycles(waits: Mapping[str, Sequence[str]], index: Mapping[str, int], report: _Report) -> set[tuple[str, str]]:
    """Report every cycle once. Returns its edges: (step, the step that it waits for)."""
    circular: set[tuple[str, str]] = set()
    while not report.full:
        try:
            references.ordered({name: [other for other in others if (name, other) not in circular] for name, others in waits.items()})
        except graphlib.CycleError as error:
            cycle: list[str] = error.args[1][::-1]
            first = min(range(len(cycle) - 1), key=lambda number: index[cycle[number]])
            names = [*cycle[first:-1], *cycle[: first + 1]]
            circular |= set(itertools.pairwise(names))
            waiting = ", ".join(f"{name} waits for {other}" for name, other in itertools.pairwise(names))
            report.add(("steps", index[names[0]]), f"these steps form a cycle: {waiting}")
        else:
            break
    return circular


def _check_producers(workflow: Workflow, report: _Report) -> None:
    names = {output.name for output in workflow.outputs} - {expression.HOLE}
    producers: dict[str, str] = {}
    for index, step in enumerate(workflow.steps):
        for number, output in enumerate(step.outputs):
            if output.name in names and step.matrix and not step.matrix.best:
                message = f"the workflow's output {output.name!r} has a value for each combination; name a metric in `best` of the matrix"
                report.add(("steps", index, "outputs", number, "name"), message)
            if output.name in names and producers.setdefault(output.name, step.name) != step.name:
                message = (
                    f"the steps {producers[output.name]!r} and {step.name!r} both produce the workflow's output {output.name!r}; rename one"
                )
                report.add(("steps", index, "outputs", number, "name"), message)
