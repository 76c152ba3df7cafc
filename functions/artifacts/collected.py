"""The artifacts that the engine has collected after a step: described by their stores, before they are recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from functions.artifacts.deps import Deps
from fuseml import artifactstores
from fuseml.artifactstores import choice
from fuseml.domain import artifact, errors, events, plans
from fuseml.store import removals, runs

_log = logging.getLogger("fuseml.artifacts")


@dataclass(frozen=True, slots=True)
class Collected:
    """One artifact of a step, as its store has it. One without a description is not recorded: it is anonymous, or its store lacks it."""

    part: plans.Collect
    address: artifact.Address
    description: artifactstores.Description | None = None
    uri: str = ""
    deletion: str | None = None
    """The moment at which retention had deleted the contents, before the store was asked (store.removals)."""


def of_step(deps: Deps, event: events.Event) -> Mapping[str, Collected]:
    """Output -> the artifact that was made of it.

    Raises TemporaryError while a store is away: nothing is recorded then, and the event comes again.
    """
    step = events.RunStepFinished.model_validate(event.data)
    if step.state != "succeeded":
        return {}
    with deps.store.read() as session:
        run = runs.find_named(session, step.run)
        planned = plan_of(run, step.step) if run else None
        parts = [part for part in planned.collects if part.output in step.outputs] if planned else []
        connections = {
            part.output: choice.planned(session, part.store, deps.keyring.unseal, step.project) for part in parts if not part.anonymous
        }
        deletions = {text: removals.gone(session, text) for text in (step.outputs[part.output] for part in parts)}
    return {
        part.output: _described(
            part, step.project, step.outputs[part.output], connections.get(part.output), deletions[step.outputs[part.output]]
        )
        for part in parts
    }


def _described(
    part: plans.Collect, project: str, text: str, connection: artifactstores.Connection | None, deletion: str | None
) -> Collected:
    address = artifact.Address.parse(text)
    if connection is None:
        return Collected(part, address)
    is_planned = (address.kind, address.project) == (part.kind, project) and (part.copied or address.name == part.name)
    if not is_planned:
        planned = f"{part.kind}://{project}/{part.name}"
        raise errors.InvalidError(f"the output {part.output!r} is {text[: artifact.LONGEST]!r}, not a version of {planned}, as planned")
    artifact.check_new(address)
    try:
        store = artifactstores.connect(connection)
        return Collected(part, address, store.describe(address), store.locate(address).uri, deletion)
    except errors.PermanentError as error:
        # The other outputs of the step are recorded nevertheless.
        _log.warning("%s is not recorded, because its store does not describe it: %s", address, error.message)
        return Collected(part, address)


def plan_of(run: runs.Run, step: str) -> plans.StepPlan | None:
    """The plan of a step of the run; None for a step that it does not execute."""
    found = next((item for item in run.plan["steps"] if item["name"] == step), None) if run.plan else None
    return plans.StepPlan.model_validate(found) if found else None
