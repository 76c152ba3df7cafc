"""The plan: one run, fully resolved and engine-neutral; stored with the run as its lock.

Values are tuples of typed parts, never string templates: a secret stays a `SecretPart` (ids only) until an engine hands it to
a process, so it cannot end up in a literal, a log or a PipelineRun. The secrets themselves travel beside the plan, keyed by `ref`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.registry import selector


class TextPart(document.Model):
    kind: Literal["text"] = "text"
    text: str


class OutputPart(document.Model):
    """The value of another step's output, known when that step has succeeded."""

    kind: Literal["output"] = "output"
    step: str
    output: str


class SecretPart(document.Model):
    """One key of one set of credentials. Only ids are kept here."""

    kind: Literal["secret"] = "secret"
    extension: str
    service: str
    credentials: str
    key: str

    @property
    def ref(self) -> str:
        """The key under which the secret travels beside the plan."""
        return f"{self.extension}/{self.service}/{self.credentials}/{self.key}"


Part = Annotated[TextPart | OutputPart | SecretPart, pydantic.Field(discriminator="kind")]
Value = tuple[Part, ...]

RUN_VARIABLE = "FUSEML_ENV_RUN"
"""Tells a step the name of its run (step contract): all that a run's name changes in a plan."""

COMMIT_VARIABLE = "FUSEML_ENV_COMMIT"
"""Tells a step the commit of its first codeset (step contract)."""


def text(value: str) -> Value:
    """A value that is just text."""
    return (TextPart(text=value),) if value else ()


class Checkout(document.Model):
    """A codeset's tree at an exact commit, placed at `path` for a step. `name` is the workflow input it came from."""

    name: str
    project: str
    codeset: str
    url: str
    ref: str
    commit: str
    path: str

    @property
    def account(self) -> str:
        """How the secrets of a submission call the account that reads it, `NAME:PASSWORD`; no `SecretPart.ref` is of this form."""
        return f"{self.project}/{self.codeset}"


class Variable(document.Model):
    name: str
    value: Value


class ImageBuild(document.Model):
    """An output that is an image to build: its name and the Dockerfile inside the codeset."""

    name: Value
    dockerfile: Value = ()


class Output(document.Model):
    name: str
    image: ImageBuild | None = None


class Condition(document.Model):
    """`when`: the step runs only if `input` is (in) or is not (notin) one of `values`."""

    input: Value
    operator: Literal["in", "notin"] = "in"
    values: tuple[Value, ...]


class Resources(document.Model):
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Approval(document.Model):
    """The step waits for a person. `expires` is in seconds from the moment it waits; None waits for ever."""

    message: str = ""
    expires: int | None = None


class Caching(document.Model):
    """The step may be reused (domain.plans.step_cache). `paths` are globs of the files that count of each of its codesets; none: all count.

    `content` is the digest of these files by the path of the checkout; `not_reused` says why the step is executed all the same.
    """

    paths: tuple[str, ...] = ()
    content: dict[str, str] = {}
    not_reused: str = ""


class StepPlan(document.Model):
    """One step. `needs` holds every step that must have succeeded before, named or implied by a value. Times are seconds."""

    name: str
    image: Value
    command: tuple[Value, ...] = ()
    args: tuple[Value, ...] = ()
    script: Value = ()
    variables: tuple[Variable, ...] = ()
    checkouts: tuple[Checkout, ...] = ()
    outputs: tuple[Output, ...] = ()
    needs: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()
    retries: int = 0
    timeout: int | None = None
    resources: Resources = Resources()
    approval: Approval | None = None
    cache: Caching | None = None


class StepBinding(document.Model):
    """What one selector of one step resolved to."""

    step: str
    binding: selector.Binding


class ReusedStep(document.Model):
    """A step that is not executed: what it put out in an earlier `run` already stands in the values of the others."""

    name: str
    run: str
    image: Value
    needs: tuple[str, ...] = ()
    outputs: dict[str, str] = {}


class Plan(document.Model):
    """One execution. `id` is the run's id (stable, unique for ever), `run` its name `<workflow>-<number>`.

    Engines execute `steps`; `reused` only tells what they stand on.
    """

    id: str
    run: str
    project: str
    workflow: str
    revision: int
    inputs: dict[str, str] = {}
    steps: tuple[StepPlan, ...]
    reused: tuple[ReusedStep, ...] = ()
    outputs: dict[str, Value] = {}
    bindings: tuple[StepBinding, ...] = ()
    timeout: int | None = None

    def step(self, name: str) -> StepPlan:
        """The step called `name`. Raises NotFoundError, also for one that is reused and not executed."""
        for step in self.steps:
            if step.name == name:
                return step
        for reused in self.reused:
            if reused.name == name:
                raise errors.NotFoundError(f"run {self.run} does not execute step {name!r}: it takes what {reused.run} has put out")
        raise errors.NotFoundError(f"run {self.run} has no step {name!r}; its steps are {', '.join(s.name for s in self.steps)}")


def parts_of(step: StepPlan) -> Iterable[Part]:
    """Every part that the step's execution reads."""
    values = [step.image, step.script, *step.command, *step.args]
    values += [variable.value for variable in step.variables]
    values += [value for condition in step.when for value in (condition.input, *condition.values)]
    values += [value for output in step.outputs if output.image for value in (output.image.name, output.image.dockerfile)]
    for value in values:
        yield from value


def secret_refs(plan: Plan) -> tuple[SecretPart, ...]:
    """Every secret that the plan's steps need, once each."""
    found = {part.ref: part for step in plan.steps for part in parts_of(step) if isinstance(part, SecretPart)}
    return tuple(found.values())


def evaluate(value: Value, outputs: Mapping[str, Mapping[str, str]], secret: Callable[[SecretPart], str]) -> str:
    """The text of a value at execution. `outputs` maps step -> output -> text.

    Raises PermanentError when a needed output was not written.
    """
    pieces: list[str] = []
    for part in value:
        match part:
            case TextPart():
                pieces.append(part.text)
            case SecretPart():
                pieces.append(secret(part))
            case OutputPart():
                written = outputs.get(part.step, {})
                if part.output not in written:
                    raise errors.PermanentError(f"step {part.step!r} finished without writing its output {part.output!r}")
                pieces.append(written[part.output])
    return "".join(pieces)


def holds(condition: Condition, outputs: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a condition is met. Raises PermanentError when it asks for an output that was not written, or for a secret."""
    given = evaluate(condition.input, outputs, no_secret)
    listed = given in [evaluate(value, outputs, no_secret) for value in condition.values]
    return listed is (condition.operator == "in")


def no_secret(part: SecretPart) -> str:
    """For `evaluate`, where a secret has no place. Raises PermanentError."""
    raise errors.PermanentError(f"the secret {part.key!r} can only be used in the environment of a step")
