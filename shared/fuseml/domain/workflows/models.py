"""Workflow documents: inputs, outputs and container steps, in the original's field names plus the optional fields of ours.

These models say what a document may hold; `workflow_rules` says when its parts fit together. `load` applies both and reports all
problems at once. A `Workflow` that was loaded is sound: its references name something, its steps have an order, its globs, versions
and quantities can be read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

import pydantic

from fuseml.domain.documents import document
from fuseml.domain.registry import selector

CODESET = "codeset"
"""The type of an input that is a codeset; inputs of every other type are text."""

DEFAULT_CHECKOUT = "/project"

_DURATION = re.compile(r"(?=\d)(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?|(\d{1,9})", re.ASCII)
_MAX_SECONDS = 366 * 86_400


def seconds(value: object) -> object:
    """A duration, `30s`, `10m`, `1h30m`, `2d` or a number of seconds, as whole seconds. Raises ValueError."""
    match = _DURATION.fullmatch(str(value)) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if not match:
        raise ValueError(f"{value!s} is not a duration; write 30s, 10m, 1h30m, or whole seconds")
    days, hours, minutes, rest, bare = (int(part or 0) for part in match.groups())
    total = ((days * 24 + hours) * 60 + minutes) * 60 + rest + bare
    if not 0 < total <= _MAX_SECONDS:
        raise ValueError(f"{value!s} is not between one second and {_MAX_SECONDS // 86_400} days")
    return total


def _items(value: object) -> object:
    # `inputs:` with nothing behind it is an empty list, as it was for the original.
    return [] if value is None else value


_Item = TypeVar("_Item")
Items = Annotated[list[_Item], pydantic.BeforeValidator(_items)]

Scalar = Annotated[document.Text, pydantic.WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""Text that editors let people write as a number or a boolean too."""

Duration = Annotated[
    int,
    pydantic.BeforeValidator(seconds),
    pydantic.WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"}]}
    ),
]

ReadOnly = Annotated[
    None,
    pydantic.BeforeValidator(lambda _: None),
    pydantic.WithJsonSchema({"readOnly": True}),
    pydantic.Field(exclude=True, description="Set by the server; what a document says here is ignored."),
]


class Input(document.Model):
    """An input of the workflow: a codeset, or text under any other type. Text without a default must be given for each run."""

    name: document.Text
    description: document.Text = ""
    type: document.Text = "string"
    default: Scalar | None = None
    labels: Items[document.Text] = []

    @property
    def is_codeset(self) -> bool:
        return self.type == CODESET


class Output(document.Model):
    """An output of the workflow: that of the step whose output has this name."""

    name: document.Text
    description: document.Text = ""
    type: document.Text = "string"


class CodesetMount(document.Model):
    """Which codeset input is checked out, and where. The first one of a step is its working directory."""

    name: Annotated[document.Text, pydantic.Field(description="A codeset input: its name, or {{ inputs.NAME }}.")]
    path: document.Text = DEFAULT_CHECKOUT


class StepInput(document.Model):
    """Either a value, which the step finds as FUSEML_<NAME>, or a codeset. A codeset needs no name."""

    name: document.Text = ""
    value: Scalar | None = None
    codeset: CodesetMount | None = None


class ImageBuild(document.Model):
    """The image that an output is: its name and, within the codeset, its Dockerfile."""

    name: document.Text
    dockerfile: document.Text = ""


class StepOutput(document.Model):
    """Text that the step writes to a file of this name or, with `image`, an image that is built."""

    name: document.Text
    image: ImageBuild | None = None


class ExtensionRequirement(selector.Selector):
    """A selector: which service of which extension the step needs. Its configuration becomes the step's environment."""

    name: document.Text
    status: ReadOnly = None


class EnvironmentVariable(document.Model):
    """A variable of the step. It overrides what inputs and extensions set."""

    name: document.Text
    value: Scalar


class Resources(document.Model):
    """Compute resources in Kubernetes' quantities: `cpu: 500m`, `memory: 2Gi`."""

    requests: dict[str, Scalar] = {}
    limits: dict[str, Scalar] = {}


class When(document.Model):
    """The step runs only if `input` is (in) or is not (notin) one of `values`; otherwise it is skipped."""

    input: Scalar
    operator: Literal["in", "notin"] = "in"
    values: Items[Scalar]


class Approval(document.Model):
    """The step waits until a person approves; without `expires` for ever."""

    message: Annotated[document.Text, pydantic.Field(description="What people are asked; may hold {{ inputs.NAME }}.")] = ""
    expires: Annotated[Duration | None, pydantic.Field(description="Time to answer: 1d, 8h. Nobody's answer fails the step.")] = None


class Cache(document.Model):
    """What counts of the step's codesets; everything else may change without the step being executed again."""

    paths: Annotated[Items[document.Text], pydantic.Field(description="Globs of the files that count: conda.yaml, src/**.")]


def _switch(value: object) -> object:
    if isinstance(value, bool | str) and str(value).lower() in ("true", "false", "yes", "no", "on", "off"):
        return value
    raise ValueError("must be true, false, or the paths that count: {paths: [conda.yaml]}")


Caching = Annotated[
    Annotated[bool, pydantic.BeforeValidator(_switch), pydantic.Tag("switch")] | Annotated[Cache, pydantic.Tag("globs")],
    pydantic.Discriminator(lambda value: "globs" if isinstance(value, Mapping | Cache) else "switch"),
]


class Step(document.Model):
    """A container to run. It waits for the steps whose outputs it uses and for those in `needs`; the others run side by side."""

    name: document.Text
    image: document.Text
    inputs: Items[StepInput] = []
    outputs: Items[StepOutput] = []
    extensions: Items[ExtensionRequirement] = []
    env: Items[EnvironmentVariable] = []
    resources: Resources = Resources()
    needs: Annotated[Items[document.Text], pydantic.Field(description="Steps to wait for although none of their outputs is used.")] = []
    when: Annotated[Items[When], pydantic.Field(description="Conditions; all of them must hold.")] = []
    retries: Annotated[int, pydantic.Field(ge=0, le=100, description="How often the step is tried again after a failure.")] = 0
    timeout: Annotated[Duration | None, pydantic.Field(description="For one attempt: 30s, 10m, 1h30m, or seconds.")] = None
    command: Annotated[Items[Scalar], pydantic.Field(description="Replaces `run`, the entry point of step images.")] = []
    args: Annotated[Items[Scalar], pydantic.Field(description="Arguments of the command.")] = []
    script: Annotated[document.Text, pydantic.Field(description="Runs instead of a command; a shell script unless it begins with #!.")] = ""
    approval: Approval | None = None
    cache: Annotated[
        Caching, pydantic.Field(description="Reuse the outputs of the last run with the same image, inputs, content and bindings.")
    ] = False

    @property
    def mounts(self) -> list[CodesetMount]:
        """The codesets that are checked out for the step, in order."""
        return [item.codeset for item in self.inputs if item.codeset]

    @property
    def watched(self) -> list[str]:
        """Globs of the files that count for the cache; none: all do."""
        return self.cache.paths if isinstance(self.cache, Cache) else []


class Push(document.Model):
    """Pushes that start a run. No refs: every branch. No paths: every change."""

    refs: Annotated[Items[document.Text], pydantic.Field(description="Globs: main, release/*, refs/tags/v*.")] = []
    paths: Annotated[Items[document.Text], pydantic.Field(description="Globs of changed files: conda.yaml, src/**.")] = []


class On(document.Model):
    """What starts a run. Without it, every push to a branch of an assigned codeset does."""

    push: Push | None = None
    patterns: Annotated[Items[document.Text], pydantic.Field(description="Artifacts: model://*, dataset://project/*.")] = []
    schedule: Annotated[document.Text, pydantic.Field(description="A cron expression of five fields, in UTC: 0 3 * * *.")] = ""


class Concurrency(document.Model):
    """Runs of one group do not overlap: they queue, or a newer one cancels the older. Without a name, a group is a workflow on a codeset."""

    group: Annotated[
        document.Text, pydantic.Field(description="Shared by the workflows of a project that name it; may hold {{ inputs.NAME }}.")
    ] = ""
    policy: Annotated[
        Literal["queue", "cancel"], pydantic.Field(description="What a new run does to those of its group: wait, or cancel.")
    ] = "queue"


class Workflow(document.Model):
    """What to run, on what, and when."""

    name: document.Text
    description: document.Text = ""
    inputs: Items[Input] = []
    outputs: Items[Output] = []
    steps: Items[Step]
    on: On | None = None
    concurrency: Concurrency | None = None
    timeout: Annotated[
        Duration | None,
        pydantic.Field(description="For the run: 30m, 6h, or seconds. With approvals for each part: people take their time."),
    ] = None
    created: ReadOnly = None
    revision: ReadOnly = None
