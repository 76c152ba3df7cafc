"""Portability: the bindings of a workflow here, compared with those that it would get from the registry of another instance.

Pure, by the rules of a run (`domain.workflows.preview`). Addresses and credentials always differ, so they are shown and do not count; products,
versions and protocols count, and the keys of the environment that only one of both sides gives. Values of credentials are not compared: whether
the other instance has them is not known, so that named keys count as given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import workflows
from fuseml.domain.documents import document
from fuseml.domain.registry import artifact_stores, extension
from fuseml.domain.registry.selector import Binding
from fuseml.domain.workflows import preview

State = Literal["binds", "differs", "missing"]
"""`binds`: to an equal service. `differs`: it runs, with a service that is another one in some respect. `missing`: it would not run."""

_ATTRIBUTES = ("product", "version", "service_resource", "service_category")
_GIVEN = "given"


class BindingDifference(document.Model):
    """An attribute of the service, or a key of the step's environment (`environment.AWS_REGION`), here and there; empty where it is missing."""

    what: str
    here: str
    there: str


class Comparison(document.Model):
    """One selector of one step. `here` and `there` are the services, `extension/service at URL`; empty where it matches nothing.

    `reason` says why it is missing there, or why it is no difference that it matches nothing here.
    """

    step: str
    selector: str
    state: State
    here: str
    there: str
    differences: list[BindingDifference]
    reason: str


class Portability(document.Model):
    """Every selector of a workflow; `portable` if none of them is missing."""

    workflow: str
    portable: bool
    comparisons: list[Comparison]


@dataclass(frozen=True, slots=True)
class Instance:
    """The records of an instance; `home` is its control plane's own zone, in which steps run."""

    records: Sequence[extension.Extension]
    home: str = ""


def compare(workflow: workflows.Workflow, here: Instance, there: Instance, *, project: str = "", user: str = "") -> Portability:
    """The selectors of the workflow, as a run of the project would resolve them on both instances. Runnables are put in before."""
    ours = preview.RegistrySnapshot(here.records, here.home, artifact_stores.no_store)
    theirs = preview.RegistrySnapshot([_given(record) for record in there.records], there.home, artifact_stores.no_store)
    found = [
        comparison
        for step in workflow.steps
        for comparison in _compare(step, ours.preview(workflow, step, project, user), theirs.preview(workflow, step, project, user))
    ]
    return Portability(workflow=workflow.name, portable=all(item.state != "missing" for item in found), comparisons=found)


def _given(record: extension.Extension) -> extension.Extension:
    """The record with a value for every key of its credentials: those of another instance are hidden, whether it has them or not."""
    services = tuple(
        service.model_copy(
            update={
                "credentials": tuple(
                    item.model_copy(update={"configuration": dict.fromkeys(item.configuration, _GIVEN)}) for item in service.credentials
                )
            }
        )
        for service in record.services
    )
    return record.model_copy(update={"services": services})


def _compare(step: workflows.Step, here: preview.StepPreview, there: preview.StepPreview) -> Iterator[Comparison]:
    for requirement in step.extensions:
        name = requirement.name
        ours, theirs = here.bindings.get(name), there.bindings.get(name)
        differences = list(_differences(ours, theirs)) if ours and theirs else []
        state: State = "missing" if theirs is None else "differs" if differences or ours is None else "binds"
        reason = there.reasons.get(name, "") if theirs is None else "" if ours else f"here it matches nothing: {here.reasons[name]}"
        yield Comparison(
            step=step.name,
            selector=name,
            state=state,
            here=_shown(ours),
            there=_shown(theirs),
            differences=differences,
            reason=reason,
        )


def _differences(ours: Binding, theirs: Binding) -> Iterator[BindingDifference]:
    for attribute in _ATTRIBUTES:
        here, there = getattr(ours, attribute), getattr(theirs, attribute)
        if here != there:
            yield BindingDifference(what=attribute.removeprefix("service_"), here=here, there=there)
    keys = ours.environment().keys(), theirs.environment().keys()
    for key in sorted(keys[0] ^ keys[1]):
        texts = [_GIVEN if key in side else "" for side in keys]
        yield BindingDifference(what=f"environment.{key}", here=texts[0], there=texts[1])


def _shown(binding: Binding | None) -> str:
    return f"{binding.extension_id}/{binding.service_id} at {binding.url}" if binding else ""
