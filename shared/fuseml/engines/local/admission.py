"""Admission: rejects plans that this engine can never run, with the step and a remedy, before anything starts."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping

from fuseml.domain import errors, plans
from fuseml.domain.registry import credential_files
from fuseml.domain.workflows import resources as extended
from fuseml.engines.local import journal, resources
from fuseml.engines.local.devices import Devices


def admit(plan: plans.Plan, secrets: Mapping[str, str], devices: Devices) -> dict[str, str]:
    """The secrets that the plan uses. Raises PermanentError when the plan can never run on this engine, with its `devices`."""
    if not journal.is_name(plan.id):
        raise errors.PermanentError(f"{plan.id!r} is not a valid run id: use letters, digits, '-', '_' and '.' only")
    if plan.project and not journal.is_name(plan.project):
        raise errors.PermanentError(f"{plan.project!r} is not a valid name of a project: use letters, digits, '-', '_' and '.' only")
    names = [step.name for step in plan.steps]
    if len(set(names)) != len(names):
        raise errors.PermanentError(f"run {plan.run} has two steps of the same name; rename one")
    for step in plan.steps:
        _check_step(step, names, devices)
    try:
        graphlib.TopologicalSorter({step.name: step.needs for step in plan.steps}).prepare()
    except graphlib.CycleError as error:
        raise errors.PermanentError(
            f"run {plan.run}: the steps {' -> '.join(error.args[1])} form a cycle; remove one of their needs"
        ) from error
    for name, value in plan.outputs.items():
        if any(isinstance(part, plans.SecretPart) for part in value):
            raise errors.PermanentError(
                f"run {plan.run}: the output {name!r} contains a secret, which it would publish; remove the secret from it"
            )
    for part in plans.secret_refs(plan):
        if part.ref not in secrets:
            raise errors.PermanentError(f"run {plan.run} was submitted without the secret {part.ref}")
    for step in plan.steps:
        for part in plans.secret_files(step):
            if fault := credential_files.size_fault(part.key, secrets[part.ref]):
                raise errors.PermanentError(f"step {step.name!r}: {fault}")
    return {part.ref: secrets[part.ref] for part in plans.secret_refs(plan)}


def _check_step(step: plans.StepPlan, names: list[str], devices: Devices) -> None:
    where = f"step {step.name!r}"
    for name in (step.name, *(output.name for output in step.outputs)):
        if not journal.is_name(name):
            raise errors.PermanentError(f"{where}: {name!r} is not a valid name: use letters, digits, '-', '_' and '.' only")
    for checkout in step.checkouts:
        for name in (checkout.project, checkout.codeset, checkout.commit, *filter(None, [checkout.own])):
            if not journal.is_name(name):
                raise errors.PermanentError(
                    f"{where}: {name!r} of codeset {checkout.name!r} is not a valid name: use letters, digits, '-', '_' and '.' only"
                )
    for fetch in step.fetches:
        if not journal.is_name(fetch.name):
            raise errors.PermanentError(
                f"{where}: {fetch.name!r} is not a valid name of an input: use letters, digits, '-', '_' and '.' only"
            )
    unknown = [need for need in step.needs if need not in names]
    if unknown:
        raise errors.PermanentError(f"{where} needs {unknown[0]!r}, which is not a step of the run")
    built = next((output.name for output in step.outputs if output.image is not None), None)
    if built is not None:
        raise errors.PermanentError(f"{where}: the local engine cannot build the image output {built!r}; use the tekton engine")
    # Every user of the machine can read command lines, and a script is a file.
    for value in (step.image, step.script, *step.command, *step.args, *(v for c in step.when for v in (c.input, *c.values))):
        secret = next((part for part in value if isinstance(part, plans.SecretPart)), None)
        if secret is not None:
            raise errors.PermanentError(
                f"{where} uses the secret {secret.key!r} in its image, command, script or condition; "
                "pass it as an input or in env, and read the variable"
            )
    try:
        resources.data_limit(step.resources.limits)
        resources.thread_variables(step.resources.limits)
        shortage = devices.shortage(extended.devices(step.resources.limits))
    except errors.PermanentError as error:
        raise errors.PermanentError(f"{where}: resource limits: {error.message}") from error
    if shortage:
        raise errors.PermanentError(f"{where} {shortage}")
