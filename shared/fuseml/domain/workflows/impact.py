"""Impact of a registry change on workflows: every selector is resolved in the snapshots before and after the change.

Pure, by the rules of a run (`domain.workflows.preview`). Credentials values are opaque (sealed): an effect reports their change, never
the values. The environment of a step is compared as a whole; each changed key is reported with the selector that sets it.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fuseml.domain import workflows
from fuseml.domain.documents import document
from fuseml.domain.registry import artifact_stores, difference, extension
from fuseml.domain.registry.selector import Binding, Selector
from fuseml.domain.workflows import preview, store_needs

Kind = Literal["unchanged", "changes", "rebinds", "breaks", "resolves"]
"""`changes`: the same service with other attributes. `rebinds`: another service. `breaks`: no match any more. `resolves`: a match now."""

_ATTRIBUTES = ("product", "version", "zone", "service_resource", "service_category")


@dataclass(frozen=True, slots=True)
class Use:
    """The current revision of a workflow, with the project and user that its selectors are resolved for.

    `held` names the stores of the artifacts that the workflow names itself.
    """

    workflow: workflows.Workflow
    revision: int = 1
    assigned: bool = True
    project: str = ""
    user: str = ""
    held: store_needs.Held = field(default_factory=dict)

    def needs(self, step: workflows.Step) -> list[store_needs.Need]:
        """The artifact stores that a step of the workflow needs."""
        return store_needs.of_step(self.workflow, step, self.held)

    def affected(self, *records: extension.Extension | None) -> list[workflows.Step]:
        """The steps with a selector or an artifact store that may match one of the records: a superset of the affected steps."""
        return [step for step in self.workflow.steps if _matches_some(self.selectors(step), records)]

    def selectors(self, step: workflows.Step) -> list[Selector]:
        """The selectors of a step and of the artifact stores that it needs."""
        return [*step.extensions, *(selector for need in self.needs(step) for selector in need.selectors())]


class BindingSummary(document.Model):
    """The endpoint and credentials that a selector is bound to."""

    extension_id: str
    service_id: str
    url: str
    credentials_id: str = ""

    def __str__(self) -> str:
        return f"{self.extension_id}/{self.service_id} at {self.url}" + (f" as {self.credentials_id}" if self.credentials_id else "")


class KeyChange(difference.Change):
    """The change of a key of a step's environment."""

    key: str


class Effect(document.Model):
    """The effect on one selector of one step, or on the store of one of its artifacts, `input NAME` or `output NAME`. `before` and `after` are
    None if it is unresolved, and if nothing changes.
    """

    workflow: str
    revision: int
    assigned: bool
    project: str
    user: str
    step: str
    selector: str
    effect: Kind
    before: BindingSummary | None = None
    after: BindingSummary | None = None
    environment: list[KeyChange] = []
    reason: str = ""
    sentence: str


class Impact(document.Model):
    """The impact of a change of one record. `revision` is that of the record before the change, 0 for a new one.

    `changes` lists fields of the record, `effects` selectors of workflows; `summary` counts the effects.
    """

    extension_id: str
    change: Literal["registers", "updates", "removes", "none"]
    revision: int
    changes: list[difference.FieldChange]
    effects: list[Effect]
    summary: str

    def broken(self) -> list[Effect]:
        """The selectors of assigned workflows that the change breaks."""
        return [effect for effect in self.effects if effect.effect == "breaks" and effect.assigned]


def _matches_some(selectors: Iterable[Selector], records: Sequence[extension.Extension | None]) -> bool:
    existing = [record for record in records if record]
    return any(_may_match(item, record) for item in selectors for record in existing)


def _may_match(selector: Selector, record: extension.Extension) -> bool:
    other = selector.otherwise
    return _may_match_exactly(selector, record) or (other is not None and _may_match_exactly(other, record))


def _may_match_exactly(selector: Selector, record: extension.Extension) -> bool:
    return (selector.extension_id or record.id, selector.product or record.product) == (record.id, record.product) and any(
        (selector.service_id or service.id, selector.service_resource or service.resource, selector.service_category or service.category)
        == (service.id, service.resource, service.category)
        for service in record.services
    )


def assess(
    before: extension.Extension | None,
    after: extension.Extension | None,
    others: Sequence[extension.Extension],
    uses: Sequence[Use],
    *,
    home: str = "",
    facts: artifact_stores.FactsOf = artifact_stores.no_store,
) -> Impact:
    """The impact of changing one record from `before` to `after`; None is a record that does not exist.

    `others` are the other records that selectors may match; `home` is the control plane's own zone, where runs are. `facts` are
    those of artifact stores.
    """
    snapshots = [preview.RegistrySnapshot([*others, *([record] if record else [])], home, facts) for record in (before, after)]
    effects: list[Effect] = []
    first_uses: dict[tuple[str, str], list[Effect]] = {}
    for use in sorted(uses, key=lambda use: (use.workflow.name, use.project, use.user)):
        affected = [step.name for step in use.affected(before, after)] if before != after else []
        of_use: list[Effect] = []
        for step in use.workflow.steps:
            needs = use.needs(step)
            if step.name in affected:
                previews = (snapshot.preview(use.workflow, step, use.project, use.user, needs) for snapshot in snapshots)
                of_use += _compare(use, step, [need.name for need in needs], *previews)
            else:
                of_use += [_effect(use, step, name) for name in (*(item.name for item in step.extensions), *(need.name for need in needs))]
        # An effect on a user is listed only if it differs from the effect on the project (the first use in this order).
        of_project = first_uses.setdefault((use.workflow.name, use.project), of_use)
        effects += (
            of_use if of_project is of_use else [one for one, other in zip(of_use, of_project, strict=True) if not _alike(one, other)]
        )
    record = after or before
    return Impact(
        extension_id=record.id if record else "",
        change="none" if before == after else "updates" if before and after else "registers" if after else "removes",
        revision=before.revision if before else 0,
        changes=difference.compare(before, after) if before != after else [],
        effects=effects,
        summary=_summary(effects),
    )


def _alike(one: Effect, other: Effect) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("effect", "before", "after", "environment", "reason"))


def _compare(
    use: Use, step: workflows.Step, stores: Sequence[str], before: preview.StepPreview, after: preview.StepPreview
) -> Iterator[Effect]:
    environment = {**_environment(before.environment, after.environment)}
    for name in stores:
        environment |= _environment(before.stores.get(name, {}), after.stores.get(name, {}))
    for name in (*(requirement.name for requirement in step.extensions), *stores):
        old, new, keys = before.bindings.get(name), after.bindings.get(name), environment.get(name, [])
        was, now = _summarise(old), _summarise(new)
        if was and now is None:
            reason = after.reasons[name]
            yield _effect(use, step, name, "breaks", f"no longer resolves: {reason}", was, now, keys, reason)
        elif now and was is None:
            yield _effect(use, step, name, "resolves", f"resolves now, to {now}", was, now, keys)
        elif was != now:
            yield _effect(use, step, name, "rebinds", f"re-binds from {was} to {now}", was, now, keys)
        else:
            attributes = [attribute for attribute in _ATTRIBUTES if getattr(old, attribute, "") != getattr(new, attribute, "")]
            if attributes or keys:
                clause = f"stays with {now}, with another {', '.join((*attributes, *(change.key for change in keys)))}"
                yield _effect(use, step, name, "changes", clause, was, now, keys)
            else:
                yield _effect(use, step, name)


def _effect(
    use: Use,
    step: workflows.Step,
    name: str,
    kind: Kind = "unchanged",
    clause: str = "stays as it is",
    before: BindingSummary | None = None,
    after: BindingSummary | None = None,
    environment: Sequence[KeyChange] = (),
    reason: str = "",
) -> Effect:
    where = (f" in project {use.project}" if use.project else "") + (f" for {use.user}" if use.user else "")
    return Effect(
        workflow=use.workflow.name,
        revision=use.revision,
        assigned=use.assigned,
        project=use.project,
        user=use.user,
        step=step.name,
        selector=name,
        effect=kind,
        before=before,
        after=after,
        environment=list(environment),
        reason=reason,
        sentence=f"{use.workflow.name}/{step.name} {name!r}{where} {clause}" + ("" if use.assigned else " (not assigned)"),
    )


def _summarise(binding: Binding | None) -> BindingSummary | None:
    if binding is None:
        return None
    return BindingSummary(
        extension_id=binding.extension_id, service_id=binding.service_id, url=binding.url, credentials_id=binding.credentials_id
    )


def _environment(before: Mapping[str, preview.Value], after: Mapping[str, preview.Value]) -> Mapping[str, list[KeyChange]]:
    """The changed keys by the selector that sets them; of a key that vanishes, the selector that did."""
    changes: dict[str, list[KeyChange]] = collections.defaultdict(list)
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        source = new or old
        if source and (old is None or new is None or (old.secret, old.identity) != (new.secret, new.identity)):
            kind: difference.Kind = "appears" if old is None else "vanishes" if new is None else "changes"
            secret = any(value.secret for value in (old, new) if value)
            texts = [value.text if value else "" for value in (old, new)]
            changes[source.selector].append(KeyChange(key=key, effect=kind, secret=secret, before=texts[0], after=texts[1]))
    return changes


_PHRASES: Mapping[Kind, tuple[str, str]] = {
    "breaks": ("no longer resolves", "no longer resolve"),
    "rebinds": ("re-binds", "re-bind"),
    "changes": ("gets another environment", "get another environment"),
    "resolves": ("resolves now", "resolve now"),
    "unchanged": ("stays as it is", "stay as they are"),
}


def _summary(effects: Sequence[Effect]) -> str:
    counts = collections.Counter(effect.effect for effect in effects)
    parts = [f"{counts[kind]} {one if counts[kind] == 1 else many}" for kind, (one, many) in _PHRASES.items() if counts[kind]]
    return f"selectors of workflows: {', '.join(parts)}" if parts else "no workflow has selectors"
