"""What this engine refuses before it creates anything: plans that Tekton can never run, told with the step and the way out."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping

from fuseml.domain import errors, plans
from fuseml.engines.tekton import names, tasks, values

_NAME_RULE = "letters, digits, '-' and '_', beginning and ending with a letter or digit"


def admit(planned: plans.Plan, secrets: Mapping[str, str]) -> None:
    """Raises PermanentError when the plan can never run on this engine, or one of its secrets is missing."""
    if not names.is_label_value(planned.id):
        raise errors.PermanentError(f"{planned.id!r} cannot be a run's id: it has to be the value of a label")
    if not planned.steps:
        raise errors.PermanentError(f"run {planned.run} has no step to run")
    known = {step.name: {output.name for output in step.outputs} for step in planned.steps}
    if len(known) != len(planned.steps):
        raise errors.PermanentError(f"run {planned.run} has two steps of one name")
    for step in planned.steps:
        where = f"step {step.name!r}"
        _check_contract(step, where)
        _check_texts(step, where)
        _check_needs(step, where, known)
    try:
        graphlib.TopologicalSorter({step.name: step.needs for step in planned.steps}).prepare()
    except graphlib.CycleError as error:
        raise errors.PermanentError(f"run {planned.run}: the steps {' -> '.join(error.args[1])} wait for one another") from error
    for name, value in planned.outputs.items():
        _check_run_output(planned, name, value, known)
    for secret in plans.secret_refs(planned):
        if secret.ref not in secrets:
            raise errors.PermanentError(f"run {planned.run} came without the secret {secret.ref}")


def _check_run_output(planned: plans.Plan, name: str, value: plans.Value, known: Mapping[str, set[str]]) -> None:
    where = f"run {planned.run}"
    if not names.is_result(name):
        raise errors.PermanentError(f"{where}: {name!r} cannot be the name of an output: {_NAME_RULE}")
    if any(isinstance(part, plans.SecretPart) for part in value):
        raise errors.PermanentError(f"{where}: the output {name!r} would publish a secret")
    match value:
        case (plans.OutputPart() as part,):
            _check_output(part, where, known)
        case _ if values.is_dynamic(value):
            tasks.image_of(planned, value)


def _check_contract(step: plans.StepPlan, where: str) -> None:
    for output in step.outputs:
        if not names.is_result(output.name):
            raise errors.PermanentError(f"{where}: {output.name!r} cannot be the name of an output: {_NAME_RULE}")
    for variable in step.variables:
        if not names.is_variable(variable.name):
            raise errors.PermanentError(f"{where}: Kubernetes takes no environment variable called {variable.name!r}")
    for checkout in step.checkouts:
        if ":" in checkout.path or f"{checkout.path}/".startswith("/tekton/"):
            raise errors.PermanentError(f"{where}: a codeset cannot be checked out at {checkout.path!r}; an example: /project")
    built = [output.name for output in step.outputs if output.image is not None]
    if len(built) > 1:
        raise errors.PermanentError(f"{where} builds the images {' and '.join(map(repr, built))}; make it one step for each")
    if built and not step.checkouts:
        raise errors.PermanentError(f"{where} builds the image {built[0]!r} from nothing; give the step the codeset as an input")
    written = [output.name for output in step.outputs if output.image is None]
    if written and any(output.image is not None and output.image.dockerfile for output in step.outputs):
        raise errors.PermanentError(
            f"{where} builds the image {built[0]!r} from a Dockerfile that is named, so no program of its own writes {written[0]!r}; "
            f"let another step write it"
        )
    if step.script and any(output.image is not None and not output.image.dockerfile for output in step.outputs):
        raise errors.PermanentError(f"{where}: a script cannot say which Dockerfile to take; name it under the output's image")


def _check_texts(step: plans.StepPlan, where: str) -> None:
    """Everybody who may read PipelineRuns can read these; and they are where Tekton's variables cannot be kept from being replaced."""
    asked = [value for condition in step.when for value in (condition.input, *condition.values)]
    images = [value for output in step.outputs if output.image for value in (output.image.name, output.image.dockerfile)]
    for value in (step.image, step.script, *step.command, *step.args, *asked, *images):
        secret = next((part for part in value if isinstance(part, plans.SecretPart)), None)
        if secret is not None:
            raise errors.PermanentError(
                f"{where} uses the secret {secret.key!r} in its image, command, script or condition; pass it as an input or in env, and read the variable"
            )
    conditions = values.undecided(step.when) or ()
    undecided = [value for condition in conditions for value in (condition.input, *condition.values)]
    fixed = [plans.text(checkout.path) for checkout in step.checkouts]
    script = () if values.is_carried(step.script) else step.script
    for what, listed in (("image", [step.image]), ("condition", undecided), ("codeset's path", fixed), ("script", [script])):
        if any(map(values.is_variable, listed)):
            hint = "; pass the output as an input, and read the variable" if what == "script" else ""
            raise errors.PermanentError(
                f"{where}: its {what} holds text that Tekton takes for a variable of its own, such as $(params.x){hint}"
            )


def _check_needs(step: plans.StepPlan, where: str, known: Mapping[str, set[str]]) -> None:
    unknown = [need for need in step.needs if need not in known]
    if unknown:
        raise errors.PermanentError(f"{where} needs {unknown[0]!r}, which is no step of the run")
    for part in plans.parts_of(step):
        if isinstance(part, plans.OutputPart):
            _check_output(part, where, known)


def _check_output(part: plans.OutputPart, where: str, known: Mapping[str, set[str]]) -> None:
    if part.output not in known.get(part.step, ()):
        raise errors.PermanentError(f"{where} takes the output {part.output!r} of {part.step!r}, which no step of the run makes")
