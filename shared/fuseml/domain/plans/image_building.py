"""Images of runnables that are built of a codeset: the step of a plan that builds one, before the steps that run it.

An image is built once for a commit and a Dockerfile. A plan has the image that is recorded for both by its digest, and no step for it. Else the
step is inserted. Its image is an artifact, and two runs that build it at the same time find each other's by its tag in the registry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.domain import artifact, images, plans
from fuseml.domain.plans import planning
from fuseml.domain.registry import selector
from fuseml.domain.workflows import step_names

BUILDER = "ghcr.io/fuseml/image-builder:v1"
"""The image of the built-in step `fuseml.steps.image_builder`."""

KIND = "image"
IMAGE, ARTIFACT = "image", "artifact"
"""The outputs of the step: the name of the image by its digest, and its address as an artifact."""

ACCOUNT = ("REGISTRY_USERNAME", "REGISTRY_PASSWORD")
"""The keys of a registry's record with the account for pulls and pushes."""

PREFIX = "FUSEML_IMAGE_PREFIX"
"""The key of a registry's record with what precedes the project in repositories."""

_CHECKOUT = "/project"
_SEPARATOR = "#"


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The image of a runnable that `binding`, a registry, holds or gets: built of `code` by the file `dockerfile` in it.

    `runnable` is the address of the version. `existing` is the image by its digest, if one is recorded for `source`.
    """

    runnable: str
    code: planning.CodesetVersion
    dockerfile: str
    binding: selector.Binding
    existing: str = ""

    @property
    def name(self) -> str:
        """The name of the image as an artifact: that of the runnable."""
        return artifact.Address.parse(self.runnable).name.lower()

    @property
    def source(self) -> str:
        """The identity of the image before it is built: `code://PROJECT/CODESET/COMMIT#DOCKERFILE`."""
        return f"{artifact.code(self.code.project, self.code.codeset, self.code.commit)}{_SEPARATOR}{self.dockerfile}"

    @property
    def tag(self) -> str:
        """The tag of the image in its repository."""
        return f"build-{hashlib.sha256(self.source.encode()).hexdigest()[:16]}"

    @property
    def repository(self) -> str:
        """The name of the image without its version. Raises InvalidError for a project or name that no registry admits."""
        prefix = self.binding.configuration.get(PREFIX, "").strip("/")
        return images.named(self.binding.url, images.repository(prefix, self.code.project, self.name))


def insert(plan: plans.Plan, builds: Mapping[str, Build], namespace: str) -> plans.Plan:
    """The plan in which the steps of runnables run built images. `builds` is address of a runnable -> its build.

    Raises InvalidError for a name that no registry admits.
    """
    taken = {step.name for step in plan.steps}
    made: dict[str, plans.StepPlan] = {}
    for address, build in builds.items():
        if not build.existing:
            name = step_names.free(step_names.of(f"build-{artifact.Address.parse(address).name}"), taken)
            taken.add(name)
            made[address] = _step(name, build, plan, namespace)
    bound = [
        plans.StepBinding(step=step.name, binding=builds[address].binding.model_copy(update={"name": "registry"}))
        for address, step in made.items()
    ]
    steps = tuple(_with_image(step, builds, made) for step in plan.steps)
    return plan.model_copy(update={"steps": (*made.values(), *steps), "bindings": (*bound, *plan.bindings)})


def builds(step: plans.StepPlan) -> bool:
    """Whether the step builds an image and stores it itself."""
    return any(collect.kind == KIND and not collect.path and not collect.copied for collect in step.collects)


def image_of(step: plans.StepPlan, project: str) -> artifact.Address | None:
    """The recorded image that a step of a run of the project runs; None for an image that no build of its runnable has made."""
    if not step.runnable or len(step.image) != 1 or not isinstance(step.image[0], plans.TextPart):
        return None
    name = artifact.Address.parse(step.runnable).name.lower()
    before, _, digest = step.image[0].text.partition("@")
    return artifact.Address(KIND, project, name, digest) if digest and before.endswith(f"/{project}/{name}") else None


def _with_image(step: plans.StepPlan, builds: Mapping[str, Build], made: Mapping[str, plans.StepPlan]) -> plans.StepPlan:
    """The step with the image of its runnable. A step that ranks combinations has no runnable."""
    build = builds.get(step.runnable)
    if build is None:
        return step
    if build.existing:
        return step.model_copy(update={"image": plans.text(build.existing)})
    name = made[step.runnable].name
    image = (plans.OutputPart(step=name, output=IMAGE),)
    return step.model_copy(update={"image": image, "needs": (name, *step.needs)})


def _step(name: str, build: Build, plan: plans.Plan, namespace: str) -> plans.StepPlan:
    code, bound = build.code, planning.variables_of(build.binding, name)
    texts = {
        "FUSEML_DOCKERFILE": build.dockerfile,
        "FUSEML_IMAGE": build.repository,
        "FUSEML_TAG": build.tag,
        "FUSEML_REGISTRY_URL": build.binding.url,
        "FUSEML_ARTIFACT": f"{KIND}://{code.project}/{build.name}",
        "TASK_RESULT": IMAGE,
        "FUSEML_ENV_WORKFLOW_NAMESPACE": namespace,
        "FUSEML_ENV_WORKFLOW_NAME": plan.workflow,
        plans.RUN_VARIABLE: plan.run,
        "FUSEML_ENV_STEP": name,
        "FUSEML_ENV_PROJECT": code.project,
        "FUSEML_ENV_CODESET": code.codeset,
        plans.COMMIT_VARIABLE: code.commit,
    }
    variables = {**{key: plans.text(value) for key, value in texts.items()}, **{key: bound[key] for key in ACCOUNT if key in bound}}
    return plans.StepPlan(
        name=name,
        image=plans.text(BUILDER),
        variables=tuple(plans.Variable(name=key, value=value) for key, value in variables.items()),
        # A checkout of its own: another step may change the files of one that it shares.
        checkouts=(plans.Checkout(**{**code.model_dump(), "name": code.codeset, "path": _CHECKOUT, "own": name, "pinned": True}),),
        outputs=(plans.Output(name=IMAGE), plans.Output(name=ARTIFACT)),
        collects=(
            plans.Collect(
                output=ARTIFACT,
                kind=KIND,
                name=build.name,
                format="oci",
                source=build.source,
                store=plans.Store(
                    extension=build.binding.extension_id,
                    service=build.binding.service_id,
                    resource=build.binding.service_resource,
                    url=build.binding.url,
                    variables=tuple(plans.Variable(name=key, value=bound[key]) for key in (*ACCOUNT, PREFIX) if key in bound),
                ),
            ),
        ),
    )
