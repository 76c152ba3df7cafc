"""The models of workflow documents: inputs, outputs and container steps, with the field names of the original and optional new fields.

The models define the schema, `rules` the consistency of the parts; `loading.load` applies both and reports all problems at once. A loaded
`Workflow` is valid: its references exist, its steps are ordered, its globs, versions and quantities are well-formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic

from fuseml.domain.artifacts import conditions, subscription
from fuseml.domain.documents import document
from fuseml.domain.registry import selector
from fuseml.domain.workflows.fields import Duration, Items, ReadOnly, Scalar
from fuseml.domain.workflows.matrix import MAX_COMBINATIONS, Matrix, count

CODESET = "codeset"
"""The type of codeset inputs; inputs of all other types are text."""

PARAMETERS = "parameters"
"""The type of the input that takes the undeclared inputs of a run (`domain.workflows.parameters`)."""

DEFAULT_CHECKOUT = "/project"


class Input(document.Model):
    """An input of the workflow: a codeset, or text under any other type. A run must provide every text input without a default, except the
    one of the type `parameters`: it takes the inputs that the workflow does not declare, and is empty without any.
    """

    name: document.Text
    description: document.Text = ""
    type: document.Text = "string"
    default: Scalar | None = None
    labels: Items[document.Text] = []

    @property
    def is_codeset(self) -> bool:
        return self.type == CODESET

    @property
    def is_optional(self) -> bool:
        """Whether a run may leave it out."""
        return self.default is not None or self.type == PARAMETERS


class Output(document.Model):
    """An output of the workflow: the step output of the same name."""

    name: document.Text
    description: document.Text = ""
    type: document.Text = "string"


class CodesetMount(document.Model):
    """The checkout of a codeset input at a path. The first one of a step is its working directory, or the `folder` within it."""

    name: Annotated[document.Text, pydantic.Field(description="A codeset input: its name, or {{ inputs.NAME }}.")]
    path: document.Text = DEFAULT_CHECKOUT
    folder: Annotated[
        document.Text,
        pydantic.Field(description="A folder of the codeset, in which the step runs: services/churn. The whole is checked out."),
    ] = ""
    git: Annotated[bool, pydantic.Field(description="The checkout is a git repository with the commit, for tools that need one.")] = False


class ArtifactInput(document.Model):
    """An artifact of the run's project: its contents at a path, which FUSEML_<NAME> names, or a reference to them."""

    address: Annotated[
        Scalar, pydantic.Field(description="kind://project/name/version, kind://project/name@tag, or {{ steps.STEP.outputs.OUTPUT }}.")
    ]
    path: Annotated[document.Text, pydantic.Field(description="An absolute path; /artifacts/NAME by default.")] = ""
    access: Annotated[
        Literal["contents", "reference"],
        pydantic.Field(description="reference: no contents; FUSEML_<NAME>, FUSEML_<NAME>_URI and the variables of the store."),
    ] = "contents"
    store: Annotated[
        selector.Selector | None,
        pydantic.Field(
            description="The store of the artifact. With `access: reference`, the stores that the step reads: an artifact elsewhere is copied there."
        ),
    ] = None


class ArtifactOutput(document.Model):
    """A file or folder that the step writes: it becomes an artifact of the run's project, and its address the output."""

    kind: Literal["dataset", "model", "runnable"]
    path: Annotated[document.Text, pydantic.Field(description="Relative to the folder in which the step runs: out/model.")]
    name: Annotated[document.Text, pydantic.Field(description="The name in the address; the output's name by default.")] = ""
    format: Annotated[document.Text, pydantic.Field(description="The format of the contents: mlflow, onnx, csv.")] = ""
    anonymous: Annotated[bool, pydantic.Field(description="For later steps of the run only: it is recorded nowhere.")] = False
    store: Annotated[
        selector.Selector | None, pydantic.Field(description="The store to write to; by default the project's store for the kind.")
    ] = None


class StepInput(document.Model):
    """A value, in the step's environment as FUSEML_<NAME>, or a codeset, or an artifact. A codeset needs no name."""

    name: document.Text = ""
    value: Scalar | None = None
    codeset: CodesetMount | None = None
    artifact: ArtifactInput | None = None
    file: Annotated[bool, pydantic.Field(description="The value is the content of a file, whose path is in FUSEML_<NAME>.")] = False


class ImageBuild(document.Model):
    """The image that is an output: its name and its Dockerfile within the codeset."""

    name: document.Text
    dockerfile: document.Text = ""


class StepOutput(document.Model):
    """Text that the step writes to a file of this name; the image that it builds; or the address of an artifact that it makes."""

    name: document.Text
    image: ImageBuild | None = None
    artifact: ArtifactOutput | None = None
    type: Annotated[
        document.Text, pydantic.Field(description="integer, number, boolean: another text fails the step. Any other type is for people.")
    ] = ""


class ExtensionRequirement(selector.Selector):
    """The selector of a service that the step needs. The service's configuration becomes part of the step's environment."""

    name: document.Text
    status: ReadOnly = None


class EnvironmentVariable(document.Model):
    """A variable of the step. It overrides inputs and extensions."""

    name: document.Text
    value: Scalar


class Resources(document.Model):
    """Compute resources in Kubernetes quantities: `cpu: 500m`, `memory: 2Gi`. A device is a limit: `nvidia.com/gpu: 1`."""

    requests: Annotated[
        dict[str, Scalar], pydantic.Field(description="The least that the step needs; for the scheduler of a cluster.")
    ] = {}
    limits: Annotated[dict[str, Scalar], pydantic.Field(description="The most that the step may use; devices, which it has alone.")] = {}


class When(document.Model):
    """A condition: the step runs if `input` is (in) or is not (notin) one of `values`, and is skipped otherwise."""

    input: Scalar
    operator: Literal["in", "notin"] = "in"
    values: Items[Scalar]


class Approval(document.Model):
    """The step waits for an approval, without `expires` for ever; with `when` only under these conditions."""

    message: Annotated[document.Text, pydantic.Field(description="The question; may hold inputs, and outputs of earlier steps.")] = ""
    when: Annotated[Items[When], pydantic.Field(description="The approval is needed if all of them hold; without them it always is.")] = []
    expires: Annotated[Duration | None, pydantic.Field(description="Time limit for the answer: 1d, 8h. The step fails without one.")] = None


class Cache(document.Model):
    """The files of the step's codesets that decide about reuse; changes of other files do not execute the step again."""

    paths: Annotated[Items[document.Text], pydantic.Field(description="Globs of the relevant files: conda.yaml, src/**.")]


def _switch(value: object) -> object:
    if isinstance(value, bool | str) and str(value).lower() in ("true", "false", "yes", "no", "on", "off"):
        return value
    raise ValueError("must be true, false, or the relevant paths: {paths: [conda.yaml]}")


Caching = Annotated[
    Annotated[bool, pydantic.BeforeValidator(_switch), pydantic.Tag("switch")] | Annotated[Cache, pydantic.Tag("globs")],
    pydantic.Discriminator(lambda value: "globs" if isinstance(value, Mapping | Cache) else "switch"),
]


class Step(document.Model):
    """A container to run, of an image or of a runnable. It waits for the steps whose outputs it uses and for those in `needs`; independent steps
    run in parallel.

    A runnable gives the step its image, command, outputs, selectors and resources (`domain.runnables.steps`).
    """

    model_config = pydantic.ConfigDict(json_schema_extra={"anyOf": [{"required": ["image"]}, {"required": ["runnable"]}]})

    name: document.Text
    image: document.Text = ""
    runnable: Annotated[
        document.Text, pydantic.Field(description="A runnable instead of an image, by name or with a constraint: trainer, trainer@^1.2.")
    ] = ""
    inputs: Items[StepInput] = []
    outputs: Items[StepOutput] = []
    extensions: Items[ExtensionRequirement] = []
    env: Items[EnvironmentVariable] = []
    resources: Resources = Resources()
    needs: Annotated[Items[document.Text], pydantic.Field(description="Further steps to wait for.")] = []
    when: Annotated[Items[When], pydantic.Field(description="Conditions; all of them must hold.")] = []
    matrix: Annotated[Matrix | None, pydantic.Field(description="Run the step once for each combination of values.")] = None
    retries: Annotated[int, pydantic.Field(ge=0, le=100, description="Number of further attempts after a failure.")] = 0
    timeout: Annotated[Duration | None, pydantic.Field(description="For one attempt: 30s, 10m, 1h30m, or seconds.")] = None
    command: Annotated[Items[Scalar], pydantic.Field(description="Replaces `run`, the entry point of step images.")] = []
    args: Annotated[Items[Scalar], pydantic.Field(description="Arguments of the command.")] = []
    script: Annotated[
        document.Text, pydantic.Field(description="Runs instead of a command; a shell script unless its first line begins with #!.")
    ] = ""
    approval: Approval | None = None
    cache: Annotated[
        Caching | None,
        pydantic.Field(
            description="Reuse the outputs of the last run with the same image, inputs, content and bindings. Default: as the runnable watches."
        ),
    ] = None

    @property
    def is_open(self) -> bool:
        """Whether its runnable is not put in yet, so that its outputs are not known."""
        return bool(self.runnable) and not self.image

    @property
    def mounts(self) -> list[CodesetMount]:
        """The codesets of the step, in order."""
        return [item.codeset for item in self.inputs if item.codeset]

    @property
    def watched(self) -> list[str]:
        """Globs of the files that decide about reuse; empty for all files."""
        return self.cache.paths if isinstance(self.cache, Cache) else []

    @property
    def combinations(self) -> list[str]:
        """The names of the combinations of its matrix, which are steps of a run; empty without a matrix."""
        number = min(count(self.matrix.values), MAX_COMBINATIONS) if self.matrix else 0
        return [f"{self.name}-{index}" for index in range(1, number + 1)]

    @property
    def last(self) -> list[str]:
        """The steps of a run after which the step has ended: itself, or the combinations if nothing ranks them."""
        return [self.name] if self.matrix is None or self.matrix.best else self.combinations


class Push(document.Model):
    """Pushes that trigger a run. No refs: every branch. No paths: every change."""

    refs: Annotated[Items[document.Text], pydantic.Field(description="Globs: main, release/*, refs/tags/v*.")] = []
    paths: Annotated[Items[document.Text], pydantic.Field(description="Globs of changed files: conda.yaml, src/**.")] = []


class ArtifactTrigger(document.Model):
    """Artifacts that match a pattern and whose metrics pass comparisons."""

    pattern: Annotated[document.Text, pydantic.Field(description="model://*, model://project/*?format=mlflow.")]
    metrics: Annotated[document.Text, pydantic.Field(description="Comparisons, all of which must hold: rmse < 0.8, r2 > 0.5.")] = ""

    @property
    def subscribed(self) -> subscription.Subscription:
        """The pattern with the comparisons among its filters."""
        found = subscription.stored(self.pattern)
        return found.narrowed(conditions.comparisons(self.metrics)) if self.metrics else found


Pattern = Annotated[
    Annotated[document.Text, pydantic.Tag("text")] | Annotated[ArtifactTrigger, pydantic.Tag("fields")],
    pydantic.Discriminator(lambda value: "fields" if isinstance(value, Mapping | ArtifactTrigger) else "text"),
]


class ExtensionTrigger(document.Model):
    """Records of the registry, by criteria that the record and one of its services meet."""

    extension: Annotated[document.Text, pydantic.Field(description="The id of the record.")] = ""
    product: document.Text = ""
    version: Annotated[document.Text, pydantic.Field(description="A constraint: >=2, ^1.4.")] = ""
    zone: document.Text = ""
    service: Annotated[document.Text, pydantic.Field(description="The id of the service.")] = ""
    resource: Annotated[document.Text, pydantic.Field(description="The protocol of the service: s3, mlflow-tracking.")] = ""
    category: document.Text = ""


class On(document.Model):
    """The triggers of runs. The default is every push to a branch of an assigned codeset."""

    push: Push | None = None
    patterns: Annotated[
        Items[Pattern], pydantic.Field(description="Artifacts: model://*, dataset://project/*, model://*?metrics.rmse<0.8.")
    ] = []
    extensions: Annotated[
        Items[ExtensionTrigger], pydantic.Field(description="Records of the registry whose registration or change starts a run.")
    ] = []
    schedule: Annotated[document.Text, pydantic.Field(description="A cron expression of five fields, in UTC: 0 3 * * *.")] = ""

    @property
    def subscriptions(self) -> list[subscription.Subscription]:
        """The artifacts that start the workflow."""
        return [subscription.stored(item) if isinstance(item, str) else item.subscribed for item in self.patterns]


class Deploy(document.Model):
    """The refs whose runs serve. The runs of other refs leave the serving steps out or, with `preview`, serve under a name of their own."""

    refs: Annotated[
        Items[document.Text], pydantic.Field(description="Globs: main, release/*, refs/tags/v*; the codeset's default branch by default.")
    ] = []
    preview: Annotated[bool, pydantic.Field(description="Serve other refs as previews, each until the ref is deleted.")] = False


class Concurrency(document.Model):
    """Runs of one group do not overlap: they queue, or a new one cancels the older. Without a name, a group is a workflow on a codeset."""

    group: Annotated[
        document.Text, pydantic.Field(description="A name that workflows of a project can share; may hold {{ inputs.NAME }}.")
    ] = ""
    policy: Annotated[
        Literal["queue", "cancel"],
        pydantic.Field(description="The reaction of a new run to earlier runs of its group: wait for them, or cancel them."),
    ] = "queue"


class Workflow(document.Model):
    """A workflow: its steps, inputs, outputs and triggers."""

    name: document.Text
    description: document.Text = ""
    inputs: Items[Input] = []
    outputs: Items[Output] = []
    steps: Items[Step]
    on: On | None = None
    deploy: Deploy | None = None
    concurrency: Concurrency | None = None
    timeout: Annotated[
        Duration | None,
        pydantic.Field(
            description="For the run: 30m, 6h, or seconds. Approvals divide a run into parts; the timeout applies to each part."
        ),
    ] = None
    template: Annotated[
        document.Text, pydantic.Field(max_length=400, description="The template that it was made from: CATALOG/NAME@COMMIT.")
    ] = ""
    created: ReadOnly = None
    revision: ReadOnly = None

    @property
    def executed(self) -> list[str]:
        """The names of the steps of a run, in the order of the document."""
        return [name for step in self.steps for name in dict.fromkeys([*step.combinations, *step.last])]
