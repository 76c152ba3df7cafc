"""Runnables in the store: their registration, the choice of a version, and their use in workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlmodel

from fuseml.domain import artifact, errors
from fuseml.domain.documents import document
from fuseml.domain.registry import versions
from fuseml.domain.runnables import builtin, reference, run_values, steps, variants
from fuseml.domain.runnables.descriptor import ARTIFACTS, Input, Runnable
from fuseml.domain.workflows import Workflow, original_steps, rules
from fuseml.runtime import clock
from fuseml.store import artifact_names, artifacts, codesets, paging, runnables, runs

FORMAT = "fuseml-runnable"
"""The format of the artifact of a runnable: its contents are its descriptor."""


def register(
    session: sqlmodel.Session,
    project: str,
    runnable: Runnable,
    *,
    by: str,
    original: Mapping[str, Any] | None = None,
    run: str | None = None,
    step: str | None = None,
) -> tuple[runnables.Runnable, artifacts.Artifact | None]:
    """Register a version. Returns its row, and its artifact if that is new; the same content again changes nothing.

    A runnable that is built without a commit gets the newest one of its codeset, or that of the same content under the version.
    Raises NotFoundError for an unknown project or codeset, ForbiddenError for a codeset of another project, ConflictError for other content
    under a version, for the name of a built-in runnable, or for a codeset without a commit.
    """
    codesets.project(session, project)
    if builtin.is_reserved(runnable.name):
        raise errors.ConflictError(f"{runnable.name!r} is a built-in runnable, which every project has; choose another name")
    address = artifact.check_new(artifact.Address("runnable", project, runnable.name, runnable.version))
    stored = runnables.find(session, str(address))
    runnable = _with_commit(session, project, runnable, stored)
    if stored is not None:
        _check_same(str(address), stored.digest, runnable.digest)
        return stored, None
    known = artifacts.find(session, str(address))
    for digest in (artifact_names.deleted_digest(session, str(address)), known.digest if known else None):
        _check_same(str(address), digest or runnable.digest, runnable.digest)
    row = runnables.Runnable(
        address=str(address),
        project=project,
        name=runnable.name,
        version=runnable.version,
        version_order=versions.sort_key(runnable.version),
        kind=runnable.kind,
        digest=runnable.digest,
        content=runnable.content,
        document=runnable.stored(),
        original=dict(original) if original is not None else None,
        run=run,
        step=step,
        by=by,
        created=clock.now(),
    )
    runnables.add(session, row)
    described = artifacts.Artifact(
        address=row.address,
        kind="runnable",
        project=project,
        name=row.name,
        version=row.version,
        run=run,
        step=step,
        format=FORMAT,
        digest=row.digest,
        details={"kind": row.kind, **({"description": runnable.description} if runnable.description else {})},
        created=row.created,
    )
    return row, described if artifacts.record(session, described) else None


def register_made(
    session: sqlmodel.Session, project: str, runnable: Runnable, run: runs.Run, step: str
) -> tuple[str, artifacts.Artifact | None]:
    """Register a runnable that a step has made. Returns its address, and its artifact if that is new.

    The same content as that of the newest version is that version; other content gets the next one. Raises as `register` does, and
    ConflictError for a runnable whose newest version is of a person, or of the run of another codeset.
    """
    stored = runnables.versions(session, project, runnable.name)
    runnable = _with_commit(session, project, runnable, None)
    known = runnables.of_step(session, run.name, step, runnable.name) or next(
        (row for row in stored[:1] if row.content == runnable.content), None
    )
    if known is not None:
        return known.address, None
    for row in [stored[0], max(stored, key=lambda row: row.created)] if stored else []:
        _check_maker(session, row, run)
    version = variants.successor(stored[0].version) if stored else variants.FIRST
    while _is_taken(session, artifact.Address("runnable", project, runnable.name, version)):
        version = variants.successor(version)
    row, new = register(session, project, runnable.model_copy(update={"version": version}), by=run.name, run=run.name, step=step)
    return row.address, new


def _with_commit(session: sqlmodel.Session, project: str, runnable: Runnable, stored: runnables.Runnable | None) -> Runnable:
    """The runnable with the commit that its image is built of: a version is immutable, and so is its image."""
    build = runnable.build
    if build is None:
        return runnable
    if build.project not in ("", project):
        # Alike for codesets that exist and that do not: names cannot be probed.
        raise errors.ForbiddenError(f"build.codeset: a runnable of the project {project!r} is built of a codeset of its own project only")
    codesets.codeset(session, project, build.codeset_name)
    if build.commit:
        return runnable
    if stored is not None:
        registered = Runnable.model_validate(stored.document)
        if registered.build and registered == _at_commit(runnable, registered.build.commit):
            return registered
    head = codesets.commits(session, project, build.codeset_name).get(codesets.default_ref(session, project, build.codeset_name))
    if head is None:
        raise errors.ConflictError(
            f"build.codeset: nothing was pushed to the main branch of {project}/{build.codeset_name} yet; push to it, or name a commit"
        )
    return _at_commit(runnable, head)


def _at_commit(runnable: Runnable, commit: str) -> Runnable:
    assert runnable.build is not None
    return runnable.model_copy(update={"build": runnable.build.model_copy(update={"commit": commit})})


def _is_taken(session: sqlmodel.Session, address: artifact.Address) -> bool:
    """Whether an artifact has the address, or had it and was deleted."""
    return artifacts.find(session, str(address)) is not None or artifact_names.deletion(session, str(address)) is not None


def _check_maker(session: sqlmodel.Session, row: runnables.Runnable, run: runs.Run) -> None:
    maker = runs.find_named(session, row.run) if row.run else None
    is_same = maker is not None and (maker.project, maker.codeset) == (run.project, run.codeset)
    # Runs without code have only their workflow in common.
    if not is_same or (run.codeset is None and maker is not None and maker.workflow != run.workflow):
        raise errors.ConflictError(f"{row.name} of {row.project} was registered by {row.by}, and is not replaced by a step of {run.name}")


def _check_same(address: str, stored: str, given: str) -> None:
    if stored != given:
        raise errors.ConflictError(
            f"{address} is registered with other content, and versions of runnables are immutable: choose another version",
            details={"address": address, "different": {"digest": {"stored": stored, "given": given}}},
        )


def find(session: sqlmodel.Session, project: str, wanted: reference.Reference) -> steps.Registered | None:
    """The highest version of the project's runnable that the reference admits, else the built-in one; None without one."""
    chosen = reference.choose(wanted, runnables.texts(session, project, wanted.name)) if project else None
    if chosen is not None:
        row = runnables.get(session, str(artifact.Address("runnable", project, wanted.name, chosen)))
        return registered(row)
    own = builtin.by_name().get(wanted.name)
    return steps.Registered(builtin.address(own), own) if own and wanted.admits(own.version) else None


def input_of(session: sqlmodel.Session, project: str, text: str) -> Input:
    """The input that `RUNNABLE:INPUT` names, of a runnable of the project or a built-in one. Raises InvalidError, NotFoundError."""
    name, colon, wanted = text.rpartition(":")
    if not colon:
        raise errors.InvalidError(f"{text[:100]!r} names no input of a runnable; write RUNNABLE:INPUT, such as predictor:model")
    found = find(session, project, reference.parse(name))
    if found is None:
        raise errors.NotFoundError(missing(session, project, reference.parse(name)))
    item = found.runnable.input(wanted)
    if item is None:
        known = ", ".join(other.name for other in found.runnable.inputs)
        raise errors.InvalidError(f"the runnable {found} has no input {wanted[:100]!r}; it has {known or 'none'}")
    return item


def kind_of(item: Input) -> str:
    """The kind of the artifacts that the input takes. Raises InvalidError for a value."""
    if item.type not in ARTIFACTS:
        raise errors.InvalidError(f"the input {item.name!r} is a {item.type}, and takes no artifact")
    return ARTIFACTS[item.type]


def is_registered(session: sqlmodel.Session, address: str) -> bool:
    """Whether the artifact at the address has a descriptor of a runnable."""
    return runnables.find(session, address) is not None


def registered(row: runnables.Runnable) -> steps.Registered:
    """The version in a row."""
    return steps.Registered(row.address, Runnable.model_validate(row.document))


def missing(session: sqlmodel.Session, project: str, wanted: reference.Reference) -> str:
    """The reason for which `find` finds nothing, with the way out."""
    own = builtin.by_name().get(wanted.name)
    texts = [*runnables.texts(session, project, wanted.name), *([own.version] if own else [])]
    if texts:
        return f"no version of the runnable {wanted.name!r} satisfies {wanted.versions or 'a release'}; it has {', '.join(texts[:10])}"
    where = f"the project {project!r} has" if project else "there is"
    return f"{where} no runnable {wanted.name!r}; `fuseml runnable list` shows those that exist"


def expand(session: sqlmodel.Session, workflow: Workflow, project: str) -> steps.Expansion:
    """The workflow with the runnables that the project has for its steps, and the problems, which name those that it does not have.

    The built-in steps take the place of the original FuseML's images.
    """
    workflow = original_steps.replaced(workflow)
    wanted = steps.unresolved(workflow)
    if not wanted:
        return steps.Expansion(workflow)
    found: dict[str, steps.Registered] = {}
    problems: list[steps.Problem] = []
    for index, step in enumerate(workflow.steps):
        if step.name not in wanted:
            continue
        named = reference.parse(wanted[step.name])
        version = find(session, project, named)
        if version is not None:
            found[step.name] = version
            continue
        known = [*builtin.by_name(), *_names(session, project)]
        problems.append((("steps", index, "runnable"), missing(session, project, named), document.nearest(named.name, known)))
    expansion = steps.expand(workflow, found)
    return steps.Expansion(expansion.workflow, [*problems, *expansion.problems])


def faults(expansion: steps.Expansion, locate: rules.Locate) -> list[errors.Problem]:
    """The problems of an expansion with their positions, and without any those of the plain workflow, such as references to missing outputs."""
    if not expansion.problems:
        plain = [step.model_copy(update={"runnable": ""}) if step.image else step for step in expansion.workflow.steps]
        return rules.problems(expansion.workflow.model_copy(update={"steps": plain}), locate) if steps.addresses(expansion.workflow) else []
    found: list[errors.Problem] = []
    for path, message, suggestion in expansion.problems:
        line, column = locate(path) or (None, None)
        found.append(errors.Problem(document.render_path(path), message, line, column, suggestion))
    return found


def check(session: sqlmodel.Session, workflow: Workflow, project: str, locate: rules.Locate) -> None:
    """Raises InvalidError with the faults of the steps that name a runnable. One that the project does not have yet is none: its run will fail."""
    found = faults(expand(session, workflow, project), locate)
    refused = [fault for fault in found if not fault.path.endswith(".runnable")]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise errors.InvalidError(f"the workflow is not valid: {refused[0]}{more}", refused)


def expanded(session: sqlmodel.Session, workflow: Workflow, project: str) -> Workflow:
    """The workflow with the runnables of its steps; as it is if there are problems, which its plan reports."""
    expansion = expand(session, workflow, project)
    return workflow if expansion.problems else expansion.workflow


def _names(session: sqlmodel.Session, project: str) -> Iterable[str]:
    return dict.fromkeys(row.name for row in runnables.page(session, paging.Page(200), project=project).rows) if project else ()


def check_values(session: sqlmodel.Session, workflow: Workflow, inputs: Mapping[str, str]) -> None:
    """Raises InvalidError with each value that is none of its input's type, in a workflow whose runnables are put in."""
    problems = run_values.problems(workflow, described(session, workflow), inputs)
    if problems:
        raise errors.InvalidError(f"the inputs do not fit: {'; '.join(map(str, problems))}", problems)


def described(session: sqlmodel.Session, workflow: Workflow) -> Mapping[str, Runnable]:
    """Step -> its runnable, of a workflow whose runnables are put in."""
    return {step: _at(session, address) for step, address in steps.addresses(workflow).items()}


def _at(session: sqlmodel.Session, address: str) -> Runnable:
    own = builtin.find(address)
    return own or Runnable.model_validate(runnables.get(session, address).document)
