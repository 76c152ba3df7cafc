"""Steps that name a runnable: they become plain steps of the workflow before it is planned.

The inputs that the step gives keep their order, and those of the runnable follow, so that problems keep their positions. In the result
`runnable` is the address of the version, beside the image. A step that no runnable was found for stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fuseml.domain import artifact, errors
from fuseml.domain.documents import document, expression
from fuseml.domain.runnables import descriptor, matching, values
from fuseml.domain.runnables.descriptor import Input, Output, Runnable
from fuseml.domain.workflows import references
from fuseml.domain.workflows.models import ArtifactInput, Cache, EnvironmentVariable, Resources, Step, StepInput, StepOutput, Workflow

_ALL_FILES = "**"

TO_BUILD = "fuseml.local/build"
"""The name that stands for an image that the plan of a run builds or finds."""

Problem = tuple[document.Path, str, str | None]
"""The path in the workflow, the message, and a suggestion."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A version of a runnable, with its address."""

    address: str
    runnable: Runnable

    def __str__(self) -> str:
        return f"{self.runnable.name} {self.runnable.version}"


@dataclass(frozen=True, slots=True)
class Expansion:
    """The workflow with plain steps, and the problems of the steps that name a runnable."""

    workflow: Workflow
    problems: Sequence[Problem] = ()


def unresolved(workflow: Workflow) -> dict[str, str]:
    """Step -> the reference to its runnable, of the steps that are not plain yet."""
    return {step.name: step.runnable for step in workflow.steps if step.runnable and not step.image}


def addresses(workflow: Workflow) -> dict[str, str]:
    """Step -> the address of its runnable, of the steps that have become plain."""
    return {step.name: step.runnable for step in workflow.steps if step.runnable and step.image}


def expand(workflow: Workflow, found: Mapping[str, Registered]) -> Expansion:
    """The workflow with the runnables of its steps put in. `found` is step -> runnable."""
    if not found:
        return Expansion(workflow)
    problems: list[Problem] = []
    steps: list[Step] = []
    for index, (step, scope) in enumerate(references.scopes(workflow)):
        if step.name not in found or step.image:
            steps.append(step)
            continue
        use = _Use(step, found[step.name], scope, found)
        steps.append(use.plain())
        problems += (((("steps", index, *path)), message, suggestion) for path, message, suggestion in use.problems)
    return Expansion(workflow.model_copy(update={"steps": steps}), problems)


@dataclass(slots=True)
class _Use:
    """One step that names a runnable."""

    step: Step
    registered: Registered
    scope: expression.Scope
    found: Mapping[str, Registered]
    problems: list[Problem] = field(default_factory=list)

    @property
    def runnable(self) -> Runnable:
        return self.registered.runnable

    def plain(self) -> Step:
        """The plain step. `problems` has its faults."""
        step, runnable = self.step, self.runnable
        for name in ("command", "args", "script"):
            if getattr(step, name):
                self._problem((name,), f"the runnable {self.registered} has the {name} of the step")
        unusable = next(descriptor.problems(runnable), None)
        if unusable:
            # Documents of the original's API may hold expressions of its own.
            self._problem(("runnable",), f"{self.registered} cannot run: {document.render_path(unusable[0])}: {unusable[1]}")
            return step
        if runnable.build and not runnable.build.commit:
            # Former releases registered them, and ran none.
            self._problem(
                ("runnable",), f"{self.registered} does not fix the commit of {runnable.build.codeset}: register another version of it"
            )
        inputs = self._inputs()
        texts = {item.name: item.value or "" for item in inputs if not item.codeset}
        overridden = {item.name for item in step.env}
        return step.model_copy(
            update={
                "runnable": self.registered.address,
                "image": f"{TO_BUILD}:{runnable.build.commit}" if runnable.build else self._text(runnable.image, texts),
                "command": [self._text(text, texts) for text in runnable.command],
                "args": [*(self._text(text, texts) for text in runnable.args), *self._arguments(texts)],
                "script": self._text(runnable.script, texts),
                "inputs": inputs,
                "outputs": self._outputs(),
                "extensions": [
                    *step.extensions,
                    *(item for item in runnable.extensions if item.name not in {own.name for own in step.extensions}),
                ],
                "env": [
                    *step.env,
                    *(
                        EnvironmentVariable(name=item.name, value=self._text(item.value, texts))
                        for item in runnable.env
                        if item.name not in overridden
                    ),
                ],
                "resources": Resources(
                    requests={**runnable.resources.requests, **step.resources.requests},
                    limits={**runnable.resources.limits, **step.resources.limits},
                ),
                "cache": self._cache(inputs),
            }
        )

    def _problem(self, path: document.Path, message: str, suggestion: str | None = None) -> None:
        self.problems.append((path, message, suggestion))

    def _inputs(self) -> list[StepInput]:
        """The given inputs and then the defaults."""
        given: dict[str, StepInput] = {}
        for index, item in enumerate(self.step.inputs):
            name = item.name or self._only_codeset(item)
            declared = self.runnable.input(name)
            if declared is None:
                known = [other.name for other in self.runnable.inputs]
                near = document.nearest(name, known)
                listed = "" if near else f"; it has {', '.join(known) or 'none'}"
                self._problem(("inputs", index, "name"), f"the runnable {self.registered} has no input {name!r}{listed}", near)
                continue
            given[name] = item.model_copy(
                update={"name": name, "file": declared.passed == "file", "artifact": _in_accepted_store(declared, item.artifact)}
            )
            self._check(declared, item, ("inputs", index))
        for declared in self.runnable.inputs:
            if declared.name in given:
                continue
            if declared.needs_value:
                what = f" ({declared.description})" if declared.description else ""
                self._problem(("inputs",), f"the runnable {self.registered} needs the input {declared.name!r}, a {declared.type}{what}")
            elif declared.default:
                value = _plain(declared.default)
                given[declared.name] = StepInput(name=declared.name, value=value, file=declared.passed == "file")
        return list(given.values())

    def _only_codeset(self, item: StepInput) -> str:
        """The name of the input that a codeset without a name stands for."""
        codesets = [declared.name for declared in self.runnable.inputs if declared.type == "codeset"]
        return codesets[0] if item.codeset and len(codesets) == 1 else ""

    def _check(self, declared: Input, item: StepInput, path: document.Path) -> None:
        if (declared.type == "codeset") is not bool(item.codeset):
            need = "is a codeset; write `codeset: {name: ...}`" if declared.type == "codeset" else f"is a {declared.type}, not a codeset"
            self._problem(path, f"the input {declared.name!r} of the runnable {self.registered} {need}")
        elif item.artifact is not None:
            self._check_artifact(declared, item.artifact.address, (*path, "artifact"))
        elif item.value is not None:
            self._check_value(declared, item.value, (*path, "value"))

    def _check_artifact(self, declared: Input, address: str, path: document.Path) -> None:
        if not declared.is_artifact:
            self._problem(path, f"the input {declared.name!r} of the runnable {self.registered} is a {declared.type}, not an artifact")
            return
        if declared.passed != "env" or self._is_inserted(declared):
            how = "puts the input into a text" if declared.passed == "env" else f"passes the input as `{declared.passed}`"
            self._problem(path, f"an artifact is passed in its variable only, and {self.registered} {how}: {declared.name!r}")
        nodes, unreadable = expression.read(address, self.scope.knows)
        if not unreadable:
            self._check_kind(declared, nodes, (*path, "address"))
            self._check_output(declared, nodes, (*path, "address"))

    def _check_kind(self, declared: Input, nodes: Sequence[expression.Node], path: document.Path) -> None:
        """A literal address is one of the input's kind; other text may be a path or a URI."""
        if not declared.is_artifact or not all(isinstance(node, expression.Literal) for node in nodes):
            return
        kind = _kind("".join(node.text for node in nodes if isinstance(node, expression.Literal)))
        if kind and kind != descriptor.ARTIFACTS[declared.type]:
            self._problem(path, f"the input {declared.name!r} is a {declared.type}, and the address is that of another kind: {kind}")

    def _check_value(self, declared: Input, text: str, path: document.Path) -> None:
        nodes, unreadable = expression.read(text, self.scope.knows)
        if unreadable:
            return
        if all(isinstance(node, expression.Literal) for node in nodes):
            plain = "".join(node.text for node in nodes if isinstance(node, expression.Literal))
            fault = values.fault(declared, plain) if plain or not declared.optional else ""
            if fault:
                self._problem(path, f"the input {declared.name!r}: {fault}")
        for node in nodes:
            if isinstance(node, expression.ExtensionReference) and node.key and self._is_public(declared):
                self._problem(
                    path,
                    f"'{{{{ {node} }}}}' may be a secret, and {self.registered} passes the input {declared.name!r} in its command or a file",
                )
        self._check_kind(declared, nodes, path)
        self._check_output(declared, nodes, path)

    def _check_output(self, declared: Input, nodes: Sequence[expression.Node], path: document.Path) -> None:
        match nodes:
            case [expression.OutputReference(step, name)] if step in self.found:
                output = self.found[step].runnable.output(name)
                # Every output is text, so a step may write any into a string.
                if output and declared.type != "string":
                    match = matching.match(matching.of_output(output), declared)
                    if match.verdict == "refused":
                        self._problem(path, f"the output {name!r} of {step!r} does not fit the input {declared.name!r}: {match}")

    def _is_public(self, declared: Input) -> bool:
        if declared.passed != "env":
            return True
        plain = (self.runnable.image, self.runnable.script, *self.runnable.command, *self.runnable.args)
        return any(
            isinstance(node, expression.InputReference) and node.name == declared.name
            for text in plain
            for node in expression.read(text, lambda _: False)[0]
        )

    def _is_inserted(self, declared: Input) -> bool:
        return any(
            isinstance(node, expression.InputReference) and node.name == declared.name
            for _, text in descriptor.texts(self.runnable)
            for node in expression.read(text, lambda _: False)[0]
        )

    def _text(self, text: str, texts: Mapping[str, str]) -> str:
        """A text of the runnable with the values of its inputs, as a text of the workflow."""
        pieces: list[str] = []
        for node in expression.parse(text, lambda _: False):
            pieces.append(_plain(node.text) if isinstance(node, expression.Literal) else self._inserted(str(node), texts))
        if len(pieces) == 1:
            return pieces[0]
        apart = [expression.read(piece, lambda _: False) for piece in pieces]
        joined = "".join(pieces)
        nodes, unreadable = expression.read(joined, self.scope.knows)
        is_same = _merged([node for found, _ in apart for node in found]) == _merged(nodes) and not unreadable
        # A piece that is invalid by itself is a problem of the workflow.
        if not is_same and not any(problems for _, problems in apart):
            self._problem(("inputs",), f"a value and a text of the runnable {self.registered} join to an expression: {joined[:100]!r}")
        return joined

    def _inserted(self, reference: str, texts: Mapping[str, str]) -> str:
        value = texts.get(reference.removeprefix("inputs."), "")
        # Within a longer text a reference needs its braces.
        nodes = expression.read(value, self.scope.knows)[0]
        return f"{{{{ {nodes[0]} }}}}" if len(nodes) == 1 and not isinstance(nodes[0], expression.Literal) else value

    def _arguments(self, texts: Mapping[str, str]) -> Iterator[str]:
        """`--NAME=VALUE` of the inputs that are passed so, in the order of the runnable; those without a value are left out."""
        for declared in self.runnable.inputs:
            if declared.passed == "argument" and texts.get(declared.name):
                yield f"--{declared.name}=" + self._inserted(declared.name, texts)

    def _outputs(self) -> list[StepOutput]:
        declared = {output.name: output for output in self.runnable.outputs}
        if not self.step.outputs:
            return [_output(output) for output in declared.values() if not output.optional]
        for index, output in enumerate(self.step.outputs):
            if output.name not in declared:
                near = document.nearest(output.name, list(declared))
                message = f"the runnable {self.registered} has no output {output.name!r}"
                self._problem(("outputs", index, "name"), message + ("" if near else f"; it has {', '.join(declared) or 'none'}"), near)
            elif output.image:
                self._problem(
                    ("outputs", index, "image"), f"the runnable {self.registered} makes the output; a step that names it builds no image"
                )
        return [_output(declared[output.name]) for output in self.step.outputs if output.name in declared]

    def _cache(self, inputs: Sequence[StepInput]) -> bool | Cache | None:
        """The step's own cache, else the watched files of its codesets."""
        if self.step.cache is not None:
            return self.step.cache
        mounted = [item for item in inputs if item.codeset]
        watched = [declared.watch.paths for item in mounted if (declared := self.runnable.input(item.name))]
        if not any(watched):
            return None
        # The globs hold for all codesets of the step; one that watches nothing needs all of its files.
        return Cache(paths=list(dict.fromkeys(glob for globs in watched for glob in globs or [_ALL_FILES])))


def _in_accepted_store(declared: Input, given: ArtifactInput | None) -> ArtifactInput | None:
    """The artifact in a store that the runnable reads, where the step does not name one. Contents come from every store."""
    if given is None or given.store or given.access != "reference" or declared.accepts.store is None:
        return given
    return given.model_copy(update={"store": declared.accepts.store})


def _output(output: Output) -> StepOutput:
    return StepOutput(name=output.name, type=output.type)


def _kind(text: str) -> str:
    """The kind of the artifact that the text is the address of; empty for any other text."""
    if artifact.model_of("", text):
        return "model"
    try:
        return artifact.reference(text).kind
    except errors.InvalidError:
        return ""


def _merged(nodes: Sequence[expression.Node]) -> list[expression.Node]:
    """The nodes, with one literal for adjacent ones."""
    merged: list[expression.Node] = []
    for node in nodes:
        if merged and isinstance(node, expression.Literal) and isinstance(merged[-1], expression.Literal):
            merged[-1] = expression.Literal(merged[-1].text + node.text)
        else:
            merged.append(node)
    return merged


def _plain(text: str) -> str:
    """A text of a workflow that stands for these characters."""
    if not expression.may_refer(text):
        return text
    # Literals cannot hold their own quotation mark, so each mark is in a literal of the other.
    pieces = (f'{{{{ "{piece}" }}}}' if piece == "'" else f"{{{{ '{piece}' }}}}" for piece in _split(text) if piece)
    return "".join(pieces)


def _split(text: str) -> Iterator[str]:
    for number, piece in enumerate(text.split("'")):
        if number:
            yield "'"
        yield piece


def check(expansion: Expansion) -> None:
    """Raises InvalidError with all problems of the expansion."""
    if expansion.problems:
        listed = [errors.Problem(document.render_path(path), message, suggestion=near) for path, message, near in expansion.problems]
        raise errors.InvalidError(f"the run cannot be planned: {listed[0]}", listed)
