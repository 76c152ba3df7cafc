"""The artifacts that events report: commits, model versions, and the outputs of steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sqlmodel

from functions.artifacts import collected
from fuseml.domain import artifact, errors, events, plans
from fuseml.domain.artifacts import descriptor
from fuseml.domain.documents import strict_json
from fuseml.domain.plans import combinations, conversions, transfers
from fuseml.domain.runnables import variants
from fuseml.domain.workflows import Workflow, deployment
from fuseml.runtime import clock
from fuseml.store import artifact_copies, artifact_names, artifacts, codesets, decisions, executions, lineage, runs, workflows
from fuseml.usecases import artifact_records, image_builds, model_digests, runnables, stores


def on_codeset_pushed(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Record a commit as a codeset artifact."""
    pushed = events.CodesetPushed.model_validate(event.data)
    address = artifact.code(pushed.project, pushed.codeset, pushed.commit)
    details = {"ref": pushed.ref, "message": pushed.message, "pusher": pushed.pusher}
    digest = f"gitCommit:{pushed.commit}"
    return (
        []
        if artifact_records.is_gone(session, address, digest)
        else artifact_records.record(session, address, None, details, format="git", digest=digest)
    )


def on_model_registered(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Record a model version: under the project of the run that produced it, or else under the tracking server's own name."""
    model = events.ModelRegistered.model_validate(event.data)
    project = model.tags.get("fuseml.project") or model.extension
    address = artifact.Address("model", project, model.name, model.version)
    details = {
        "uri": f"models:/{model.name}/{model.version}",
        "extension": model.extension,
        "source": model.model_source,
        "digest": model_digests.of_tags(model.tags),
    }
    gone = artifact_records.is_gone(session, address, details["digest"])
    return [] if gone else artifact_records.record(session, address, model.tags.get("fuseml.run"), details, format="mlflow")


def on_model_tagged(session: sqlmodel.Session, event: events.Event) -> Sequence[events.Payload]:
    """Note the digest with which the trainer tags the version that it has registered. The first digest of a model stays; other text is none."""
    tagged = events.ModelTagged.model_validate(event.data)
    digest = model_digests.of_tags({tagged.key: tagged.value or ""})
    if digest is None:
        return []
    uri = f"models:/{tagged.name}/{tagged.version}"
    if not artifacts.note_digest(session, uri, digest) and not artifact_names.is_deleted_model(session, tagged.name, tagged.version):
        # Events have no order: that of the registration is on its way.
        raise errors.TemporaryError(f"{uri} is not recorded yet")
    return []


def on_step_finished(session: sqlmodel.Session, event: events.Event, made: Mapping[str, collected.Collected]) -> Sequence[events.Payload]:
    """Record the artifacts that were made of the step's files, and among its other outputs `models:/name/version` as a model and
    `dataset://project/name/version` of the own project as a dataset.

    The output `runnables` registers the runnables that a builder has made.
    The outputs `metrics` describe a model, `uri`, `digest` and `rows` a dataset. Lineage leads from the run's codeset version, from the artifacts
    that the step reads and, for a dataset, from the models and datasets among its other inputs. A step that ranks combinations makes no
    artifact: it repeats outputs of the best.
    """
    step = events.RunStepFinished.model_validate(event.data)
    texts = [value for name, value in step.outputs.items() if name not in made]
    named = {address: value for value in texts if (address := _named(step.project, value)) is not None}
    if not made and not named and variants.OUTPUT not in step.outputs:
        return []
    run = runs.get(session, step.run)
    plan = plans.Plan.model_validate(run.plan) if run.plan else None
    if plan is not None and combinations.ranks(plan, step.step):
        return []
    recorded: list[events.Payload] = _runnables(session, event, run, step)
    read = _fetched(session, run, step.step)
    for made_of in made.values():
        if made_of.part.copied:
            _record_copy(session, made_of, read)
            continue
        recorded += _record_collected(session, run, step, made_of, _sources(session, run, plan, step.step, made_of.address, read))
    for address, value in named.items():
        is_dataset = address.kind == "dataset"
        sources = _sources(session, run, plan, step.step, address, read)
        if address in sources:
            # Passed on, not made.
            continue
        described = {name: step.outputs.get(name) for name in ("uri", "digest", "rows")}
        details = described if is_dataset else {"uri": value, "metrics": _metrics(step.outputs.get("metrics", ""))}
        # A model is registered once; the same dataset can be made again.
        if artifact_records.is_gone(session, address, descriptor.digest_of(details.get("digest")), since=run.created if is_dataset else ""):
            continue
        recorded += artifact_records.record(session, address, step.run, details, format=None if is_dataset else "mlflow", step=step.step)
        _link(session, run, step.step, sources, address)
    return recorded


def _named(project: str, value: str) -> artifact.Address | None:
    address = artifact.model_of(project, value) or artifact.dataset_of(project, value)
    return None if address is None or transfers.is_anonymous(address) else address


def _runnables(session: sqlmodel.Session, event: events.Event, run: runs.Run, step: events.RunStepFinished) -> list[events.Payload]:
    """Register the runnables of a builder: only of a deployed ref. Those that are not valid are left out, with the reason among the decisions."""
    if variants.OUTPUT not in step.outputs:
        return []
    payloads: list[events.Payload] = []
    with _reasons(session, event, run, step):
        _check_deployed(session, run)
        for item in variants.listed(step.outputs[variants.OUTPUT]):
            with _reasons(session, event, run, step):
                address, new = runnables.register_made(session, step.project, variants.runnable(item), run, step.step)
                payloads += [artifact_records.recorded(new)] if new else []
                if run.codeset and run.commit:
                    lineage.link(session, str(artifact.code(run.project, run.codeset, run.commit)), address, step.run, step.step)
    return payloads


def _check_deployed(session: sqlmodel.Session, run: runs.Run) -> None:
    """Raises ConflictError for a run of a ref that is not deployed."""
    if not run.codeset:
        return
    workflow = Workflow.model_validate(workflows.stored_revision(session, run.workflow, run.revision).document)
    default = codesets.default_ref(session, run.project, run.codeset)
    if not deployment.is_deployed(workflow, run.ref or "", default):
        refs = deployment.deployed_refs(workflow, default)
        raise errors.ConflictError(f"only runs of {' and '.join(refs)} register runnables, and {run.name} is of {run.ref or 'no ref'}")


@contextlib.contextmanager
def _reasons(session: sqlmodel.Session, event: events.Event, run: runs.Run, step: events.RunStepFinished) -> Iterator[None]:
    """Record a permanent error among the decisions, and go on."""
    try:
        yield
    except errors.PermanentError as error:
        reason = f"step {step.step!r} of {step.run} made a runnable that is not registered: {error.message}"
        decisions.record(session, event, reason, clock.now(), workflow=run.workflow, run=run.name, commit=run.commit)


def _record_collected(
    session: sqlmodel.Session, run: runs.Run, step: events.RunStepFinished, made: collected.Collected, read: Sequence[artifact.Address]
) -> list[events.Payload]:
    """Record one artifact that the engine has collected; none that is anonymous."""
    if made.description is None or artifact_records.is_gone(session, made.address, made.description.digest, since=run.created):
        return []
    details = {
        "uri": made.uri,
        stores.STORE_FACT: made.part.store.name,
        image_builds.SOURCE: made.part.source,
        "metrics": _metrics(step.outputs.get("metrics", "")) if made.address.kind == "model" else None,
    }
    payloads = artifact_records.record(
        session,
        made.address,
        step.run,
        details,
        format=made.part.format or None,
        step=step.step,
        digest=made.description.digest,
        size=made.description.size,
        collected_after=made.deletion,
        is_collected=True,
    )
    _link(session, run, step.step, read, made.address)
    return payloads


def _record_copy(session: sqlmodel.Session, made: collected.Collected, read: Sequence[artifact.Address]) -> None:
    """Record a further place of the contents of the artifact that the step has copied. None of an artifact that was deleted meanwhile."""
    [source] = read
    store = made.part.store.name
    if not conversions.is_copy(made.address, store, source):
        raise errors.InvalidError(f"{made.address} is no copy of {source} in the store {store}, as planned")
    if made.description is None:
        return
    copy = artifact_copies.ArtifactCopy(
        address=str(source), store=store, copy_address=str(made.address), location=made.uri, created=clock.now()
    )
    artifact_copies.record(session, copy, made.deletion)
    if artifacts.find(session, str(source)) is not None:
        return
    if artifact_names.deletion(session, str(source)) is None:
        # Events have no order: the report of the step that made it is on its way.
        raise errors.TemporaryError(f"{source} is not recorded yet")
    executions.forget(session, artifact_copies.discard(session, str(source), clock.now()))


def _link(session: sqlmodel.Session, run: runs.Run, step: str, read: Sequence[artifact.Address], address: artifact.Address) -> None:
    planned = collected.plan_of(run, step)
    pinned = [artifact.code(item.project, item.codeset, item.commit) for item in planned.checkouts if item.pinned] if planned else []
    sources = pinned or ([artifact.code(run.project, run.codeset, run.commit)] if run.codeset and run.commit else [])
    for source in dict.fromkeys([*sources, *read]):
        if source != address:
            lineage.link(session, str(source), str(address), run.name, step)


def _fetched(session: sqlmodel.Session, run: runs.Run, step: str) -> list[artifact.Address]:
    """The artifacts of the project that the step reads. Those that are recorded nowhere have no lineage."""
    planned = collected.plan_of(run, step)
    texts = [_evaluated(session, run, fetch.address) for fetch in planned.fetches] if planned else []
    found = [artifact.model_of(run.project, text) or artifact.named_in(run.project, text) for text in texts]
    return [address for address in found if address and not transfers.is_anonymous(address)]


def _sources(
    session: sqlmodel.Session,
    run: runs.Run,
    plan: plans.Plan | None,
    step: str,
    made: artifact.Address,
    read: Sequence[artifact.Address],
) -> list[artifact.Address]:
    """What the step read and, for a dataset, the artifacts among its other inputs: a model, for predictions."""
    return [*read, *(_inputs(session, run, plan, step) if made.kind == "dataset" else [])]


def _inputs(session: sqlmodel.Session, run: runs.Run, plan: plans.Plan | None, step: str) -> list[artifact.Address]:
    """The artifacts of the project among the values of the inputs of a step."""
    found: list[artifact.Address] = []
    for variable in plan.step(step).variables if plan else ():
        if any(isinstance(part, plans.SecretPart) for part in variable.value):
            continue
        value = _evaluated(session, run, variable.value)
        address = artifact.model_of(run.project, value) or artifact.named_in(run.project, value)
        found += [address] if address and not transfers.is_anonymous(address) else []
    return found


def _evaluated(session: sqlmodel.Session, run: runs.Run, value: plans.Value) -> str:
    """The text of a value, by the outputs of the steps before. Raises TemporaryError while such an output is not recorded."""
    outputs = {row.name: row.outputs for row in runs.steps(session, [run.id])}
    try:
        return plans.evaluate(value, outputs, plans.no_secret)
    except errors.PermanentError as error:
        # Events have no order: the report of that step is on its way.
        raise errors.TemporaryError(error.message) from error


def _metrics(text: str) -> dict[str, Any]:
    try:
        metrics = strict_json.parse(text.encode())
    except (ValueError, RecursionError):
        # An output of another shape is valid; only a JSON object is metadata.
        return {}
    return metrics if isinstance(metrics, dict) else {}
