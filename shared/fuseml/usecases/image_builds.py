"""The images that the plan of a run builds: of the runnables of its steps, in the OCI registry that the project finds, unless they are recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import sqlmodel

from fuseml.domain import artifact, errors, workflows
from fuseml.domain.plans import image_building, planning
from fuseml.domain.runnables import descriptor, steps
from fuseml.store import artifacts, codesets
from fuseml.usecases import stores

SOURCE = "source"
"""The key among the details of an image under which its source is recorded (`image_building.Build.source`)."""


def of_workflow(
    session: sqlmodel.Session,
    workflow: workflows.Workflow,
    runnables: Mapping[str, descriptor.Runnable],
    registries: stores.ProjectStores,
) -> dict[str, image_building.Build]:
    """Address of a runnable -> the build of its image, for the runnables (step -> runnable) of a workflow that are built.

    Raises UnresolvedError, with the name of the step, for a project without a registry, and NotFoundError for a codeset that was removed.
    """
    addresses = steps.addresses(workflow)
    found: dict[str, image_building.Build] = {}
    for step, runnable in runnables.items():
        if runnable.build is not None and addresses[step] not in found:
            found[addresses[step]] = _build(session, step, addresses[step], runnable.build, registries)
    return found


def _build(
    session: sqlmodel.Session, step: str, address: str, declared: descriptor.Build, registries: stores.ProjectStores
) -> image_building.Build:
    project = artifact.Address.parse(address).project
    try:
        row = codesets.codeset(session, project, declared.codeset_name)
        binding = registries.registry()
    except (errors.UnresolvedError, errors.NotFoundError) as error:
        raise type(error)(f"step {step!r}: {address} is built: {error.message}", details=error.details) from error
    code = planning.CodesetVersion(
        project=project,
        codeset=row.name,
        url=row.url,
        ref=codesets.default_ref(session, project, row.name),
        commit=declared.commit,
    )
    build = image_building.Build(runnable=address, code=code, dockerfile=declared.dockerfile, binding=binding)
    return dataclasses.replace(build, existing=_existing(session, build))


def _existing(session: sqlmodel.Session, build: image_building.Build) -> str:
    """The recorded image of the build in its registry, by its digest; empty without one."""
    holder = f"{build.binding.extension_id}/{build.binding.service_id}"
    for row in artifacts.named(session, image_building.KIND, build.code.project, build.name):
        # The registry may have moved since, or another one may have taken its name.
        if row.details.get(SOURCE) == build.source and row.details.get(stores.STORE_FACT) == holder:
            image = f"{build.repository}@{row.version}"
            if row.location == f"oci://{image}":
                return image
    return ""
