"""The plan: one run, fully resolved and engine-neutral; stored with the run as its lock.

Values are tuples of typed parts, never string templates: a secret stays a `SecretPart` (ids only) until an engine passes it to a process,
so that it cannot end up in a literal, a log or a PipelineRun. The secrets are submitted beside the plan, by `ref`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic

from fuseml.domain import errors
from fuseml.domain.documents import document
from fuseml.domain.plans.artifact_parts import Collect, Fetch, Store
from fuseml.domain.plans.values import OutputPart, Part, SecretPart, TextPart, Value, Variable, step_token, text
from fuseml.domain.registry import selector

RUN_VARIABLE = "FUSEML_ENV_RUN"
"""The variable with the name of the run (step contract): the only part of a plan that depends on the run's name."""

COMMIT_VARIABLE = "FUSEML_ENV_COMMIT"
"""The variable with the commit of the step's first codeset (step contract)."""


TOKEN_SCOPES: Mapping[str, str] = {"FUSEML_API_TOKEN": "applications", "MLFLOW_TRACKING_TOKEN": "tracking"}
"""Variable in which a step gets its token -> what the token is good for because of it."""


def token_scopes(step: StepPlan) -> list[str]:
    """What the step's token is good for, sorted: the step's variables decide, and those of its artifact stores."""
    own = (step_token(step.name),)
    variables = [*step.variables, *(item for store in stores_of(step) for item in store.variables)]
    return sorted({TOKEN_SCOPES[item.name] for item in variables if item.name in TOKEN_SCOPES and item.value == own})


class Checkout(document.Model):
    """A codeset's tree at an exact commit, mounted at `path` of a step, which runs in its `folder`. `name` is the workflow's input.

    With `git` it is a git repository with that commit, without the history; steps of a run share it, so all of them have it then. `own` is
    the step that shares it with no other: combinations run side by side and would overwrite each other's files. `pinned`: its commit is that
    of a version of a runnable, and not of the run.
    """

    name: str
    project: str
    codeset: str
    url: str
    ref: str
    commit: str
    path: str
    folder: str = ""
    git: bool = False
    own: str = ""
    pinned: bool = False

    @property
    def directory(self) -> str:
        """The path of the folder within the step."""
        return f"{self.path.rstrip('/')}/{self.folder}" if self.folder else self.path

    @property
    def account(self) -> str:
        """The name of the reading account, `NAME:PASSWORD`, among the secrets of a submission; no `SecretPart.ref` has this form."""
        return f"{self.project}/{self.codeset}"


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule of a checkout on another host: its path in the checkout, its address and commit, as the commit names them. Not trusted."""

    path: str
    url: str
    commit: str


class File(document.Model):
    """A file of the step with a text that is known before the run. `variable` holds its path, which the engine chooses."""

    name: str
    variable: str
    text: str


class ImageBuild(document.Model):
    """An image to build: its name and the Dockerfile inside the codeset."""

    name: Value
    dockerfile: Value = ()


class Output(document.Model):
    """An output. Its text is a value of the `type` (`domain.scalars`), else the step fails; empty for any text."""

    name: str
    image: ImageBuild | None = None
    type: str = ""


class Condition(document.Model):
    """A condition of `when`: the step runs only if `input` is (in) or is not (notin) one of `values`."""

    input: Value
    operator: Literal["in", "notin"] = "in"
    values: tuple[Value, ...]


class Resources(document.Model):
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


def _value_of(stored: object) -> object:
    # Plans of former releases hold the message as text.
    return text(stored) if isinstance(stored, str) else stored


class Approval(document.Model):
    """The step waits for an approval, if the conditions of `when` hold. `expires` is in seconds from the moment of the request; None: it waits
    for ever.
    """

    message: Annotated[Value, pydantic.BeforeValidator(_value_of)] = ()
    when: tuple[Condition, ...] = ()
    expires: int | None = None


class Caching(document.Model):
    """The step may be reused (domain.plans.step_cache). `paths` are globs of the files that count in its codesets; none: all count.

    `content` is the digest of these files by path of the checkout, `not_reused` the reason for which the step is executed nevertheless.
    """

    paths: tuple[str, ...] = ()
    content: dict[str, str] = {}
    not_reused: str = ""


class Best(document.Model):
    """The metric that combinations are ranked by."""

    metric: str
    goal: Literal["min", "max"] = "min"


class Combination(document.Model):
    """A step's place in a matrix: the workflow's `step` that it runs for, and its values. With `best` the plan ranks the combinations."""

    step: str
    values: dict[str, str]
    best: Best | None = None


class StepPlan(document.Model):
    """One step. `needs` holds every step that must succeed before it, named or implied by a value. Times are in seconds.

    `runnable` is the address of the runnable that the step runs; empty for an image.
    """

    name: str
    image: Value
    runnable: str = ""
    command: tuple[Value, ...] = ()
    args: tuple[Value, ...] = ()
    script: Value = ()
    variables: tuple[Variable, ...] = ()
    files: tuple[File, ...] = ()
    checkouts: tuple[Checkout, ...] = ()
    fetches: tuple[Fetch, ...] = ()
    outputs: tuple[Output, ...] = ()
    collects: tuple[Collect, ...] = ()
    needs: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()
    retries: int = 0
    timeout: int | None = None
    resources: Resources = Resources()
    approval: Approval | None = None
    cache: Caching | None = None
    combination: Combination | None = None


class StepBinding(document.Model):
    """The binding of one selector of one step."""

    step: str
    binding: selector.Binding


class ReusedStep(document.Model):
    """A step that is not executed: its outputs of an earlier `run` stand in the values of the other steps.

    `executed_as` is the name of the step there, if it is another: the combination of these values had another number.
    """

    name: str
    run: str
    executed_as: str = ""
    image: Value
    needs: tuple[str, ...] = ()
    outputs: dict[str, str] = {}
    combination: Combination | None = None


class Plan(document.Model):
    """One execution. `id` is the run's id (stable, unique for ever), `run` its name `<workflow>-<number>`.

    Engines execute `steps`; `reused` records the origin of the outputs that they read.
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
        """The step of that name. Raises NotFoundError, also for a step that is reused."""
        for step in self.steps:
            if step.name == name:
                return step
        for reused in self.reused:
            if reused.name == name:
                raise errors.NotFoundError(f"run {self.run} does not execute step {name!r}: it reuses the outputs of {reused.run}")
        raise errors.NotFoundError(f"run {self.run} has no step {name!r}; its steps are {', '.join(s.name for s in self.steps)}")


def parts_of(step: StepPlan) -> Iterable[Part]:
    """Every part of the values of the step."""
    values = [step.image, step.script, *step.command, *step.args]
    values += [variable.value for variable in step.variables]
    approval = step.approval or Approval()
    values.append(approval.message)
    values += [value for condition in (*step.when, *approval.when) for value in (condition.input, *condition.values)]
    values += [value for output in step.outputs if output.image for value in (output.image.name, output.image.dockerfile)]
    values += [value for fetch in step.fetches for value in (fetch.address, fetch.uri, fetch.stored)]
    values += [variable.value for store in stores_of(step) for variable in store.variables]
    for value in values:
        yield from value


def stores_of(step: StepPlan) -> list[Store]:
    """The stores of the artifacts that the step reads and makes."""
    return [*(fetch.store for fetch in step.fetches), *(collect.store for collect in step.collects)]


def secret_refs(plan: Plan) -> tuple[SecretPart, ...]:
    """The secrets that the steps of the plan need, each once."""
    secrets = {part.ref: part for step in plan.steps for part in parts_of(step) if isinstance(part, SecretPart)}
    return tuple(secrets.values())


def secret_files(step: StepPlan) -> tuple[SecretPart, ...]:
    """The secrets that the step gets as files, each once, by path."""
    parts = (part for variable in step.variables for part in variable.value)
    found = {(part.path, part.ref): part for part in parts if isinstance(part, SecretPart) and part.path}
    return tuple(found[key] for key in sorted(found))


def evaluate(value: Value, outputs: Mapping[str, Mapping[str, str]], secret: Callable[[SecretPart], str]) -> str:
    """The text of a value at execution. `outputs` maps step -> output -> text.

    Raises PermanentError for an output that was not written.
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
    """Whether a condition is met. Raises PermanentError when it reads an output that was not written, or a secret."""
    text = evaluate(condition.input, outputs, no_secret)
    listed = text in [evaluate(value, outputs, no_secret) for value in condition.values]
    return listed is (condition.operator == "in")


def no_secret(part: SecretPart) -> str:
    """The `secret` of `evaluate` where secrets are not allowed: raises PermanentError."""
    raise errors.PermanentError(f"the secret {part.key!r} can only be used in the environment of a step")
