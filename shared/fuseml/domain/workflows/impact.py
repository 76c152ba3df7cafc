"""What a change of the registry does to the workflows: every selector is resolved in the snapshot before and in the snapshot after.

Pure, and by the rules of a run (`domain.workflows.preview`). Credentials values are opaque (sealed): that one changed is told, its value never
is. A step's environment is compared as a whole, and each change told with the selector that the key comes from.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import workflows
from fuseml.domain.documents import document
from fuseml.domain.registry import difference, extension, selector
from fuseml.domain.workflows import preview

Kind = Literal["unchanged", "changes", "rebinds", "breaks", "resolves"]
"""`changes`: bound to the same, which says something else. `breaks`: finds nothing any more. `resolves`: finds something now."""

_DESCRIBED = ("product", "version", "zone", "service_resource", "service_category")


@dataclass(frozen=True, slots=True)
class Use:
    """The current revision of a workflow, and on whose behalf its selectors are resolved; an unassigned one runs for nobody yet."""

    workflow: workflows.Workflow
    revision: int = 1
    assigned: bool = True
    project: str = ""
    user: str = ""


class Bound(document.Model):
    """What a selector is bound to."""

    extension_id: str
    service_id: str
    url: str
    credentials_id: str = ""

    def __str__(self) -> str:
        return f"{self.extension_id}/{self.service_id} at {self.url}" + (f" as {self.credentials_id}" if self.credentials_id else "")


class KeyChange(difference.Change):
    """A key of a step's environment."""

    key: str


class Effect(document.Model):
    """What happens to one selector of one step. `before` and `after` are None where it finds nothing, and where nothing happens."""

    workflow: str
    revision: int
    assigned: bool
    project: str
    user: str
    step: str
    selector: str
    effect: Kind
    before: Bound | None = None
    after: Bound | None = None
    environment: list[KeyChange] = []
    reason: str = ""
    sentence: str


class Impact(document.Model):
    """What a change of one record means. `revision` is the record's before the change, 0 when there was none.

    `changes` are the fields of the record, `effects` the selectors of workflows; `summary` counts the effects.
    """

    extension_id: str
    change: Literal["registers", "updates", "removes", "none"]
    revision: int
    changes: list[difference.FieldChange]
    effects: list[Effect]
    summary: str

    def broken(self) -> list[Effect]:
        """What assigned workflows would find no more."""
        return [effect for effect in self.effects if effect.effect == "breaks" and effect.assigned]


def concerned(checked: workflows.Workflow, *records: extension.Extension | None) -> list[workflows.Step]:
    """The steps that one of the records might mean something to. Narrows, never decides."""
    given = [record for record in records if record]
    return [step for step in checked.steps if any(_may_mean(wanted, record) for wanted in step.extensions for record in given)]


def _may_mean(wanted: selector.Selector, record: extension.Extension) -> bool:
    return (wanted.extension_id or record.id, wanted.product or record.product) == (record.id, record.product) and any(
        (wanted.service_id or service.id, wanted.service_resource or service.resource, wanted.service_category or service.category)
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
) -> Impact:
    """What changing one record from `before` to `after` does; None is a record that does not exist.

    `others` are the other records that selectors might mean; `home` is the control plane's own zone, where runs are.
    """
    snapshots = [preview.RegistrySnapshot([*others, *([record] if record else [])], home) for record in (before, after)]
    told: list[Effect] = []
    everybody: dict[tuple[str, str], list[Effect]] = {}
    for use in sorted(uses, key=lambda use: (use.workflow.name, use.project, use.user)):
        touched = [step.name for step in concerned(use.workflow, before, after)] if before != after else []
        found: list[Effect] = []
        for step in use.workflow.steps:
            if step.name in touched:
                found += _compared(use, step, *(snapshot.preview(use.workflow, step, use.project, use.user) for snapshot in snapshots))
            else:
                found += [_effect(use, step, wanted.name) for wanted in step.extensions]
        shared = everybody.setdefault((use.workflow.name, use.project), found)
        # What happens to a user as it does to everybody in the project is told once.
        told += found if shared is found else [one for one, other in zip(found, shared, strict=True) if not _alike(one, other)]
    record = after or before
    return Impact(
        extension_id=record.id if record else "",
        change="none" if before == after else "updates" if before and after else "registers" if after else "removes",
        revision=before.revision if before else 0,
        changes=difference.compare(before, after) if before != after else [],
        effects=told,
        summary=_summary(told),
    )


def _alike(one: Effect, other: Effect) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("effect", "before", "after", "environment", "reason"))


def _compared(use: Use, step: workflows.Step, before: preview.StepPreview, after: preview.StepPreview) -> Iterator[Effect]:
    environment = _environment(before.environment, after.environment)
    for wanted in step.extensions:
        name = wanted.name
        old, new, keys = before.bindings.get(name), after.bindings.get(name), environment.get(name, [])
        was, now = _bound(old), _bound(new)
        if was and now is None:
            reason = after.reasons[name]
            yield _effect(use, step, name, "breaks", f"no longer resolves: {reason}", was, now, keys, reason)
        elif now and was is None:
            yield _effect(use, step, name, "resolves", f"resolves now, to {now}", was, now, keys)
        elif was != now:
            yield _effect(use, step, name, "rebinds", f"re-binds from {was} to {now}", was, now, keys)
        else:
            described = [what for what in _DESCRIBED if getattr(old, what, "") != getattr(new, what, "")]
            if described or keys:
                said = f"stays with {now}, with another {', '.join((*described, *(change.key for change in keys)))}"
                yield _effect(use, step, name, "changes", said, was, now, keys)
            else:
                yield _effect(use, step, name)


def _effect(
    use: Use,
    step: workflows.Step,
    name: str,
    kind: Kind = "unchanged",
    said: str = "stays as it is",
    before: Bound | None = None,
    after: Bound | None = None,
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
        sentence=f"{use.workflow.name}/{step.name} {name!r}{where} {said}" + ("" if use.assigned else " (not assigned)"),
    )


def _bound(binding: selector.Binding | None) -> Bound | None:
    if binding is None:
        return None
    return Bound(extension_id=binding.extension_id, service_id=binding.service_id, url=binding.url, credentials_id=binding.credentials_id)


def _environment(before: Mapping[str, preview.Value], after: Mapping[str, preview.Value]) -> Mapping[str, list[KeyChange]]:
    """What differs, by the selector that the key comes from; a key that vanishes came from the one before."""
    found: dict[str, list[KeyChange]] = collections.defaultdict(list)
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        source = new or old
        if source and (old is None or new is None or (old.secret, old.mark) != (new.secret, new.mark)):
            kind: difference.Kind = "appears" if old is None else "vanishes" if new is None else "changes"
            secret = any(value.secret for value in (old, new) if value)
            shown = [value.shown if value else "" for value in (old, new)]
            found[source.owner].append(KeyChange(key=key, effect=kind, secret=secret, before=shown[0], after=shown[1]))
    return found


_COUNTED: Mapping[Kind, tuple[str, str]] = {
    "breaks": ("no longer resolves", "no longer resolve"),
    "rebinds": ("re-binds", "re-bind"),
    "changes": ("gets another environment", "get another environment"),
    "resolves": ("resolves now", "resolve now"),
    "unchanged": ("stays as it is", "stay as they are"),
}


def _summary(effects: Sequence[Effect]) -> str:
    counts = collections.Counter(effect.effect for effect in effects)
    told = [f"{counts[kind]} {one if counts[kind] == 1 else many}" for kind, (one, many) in _COUNTED.items() if counts[kind]]
    return f"selectors of workflows: {', '.join(told)}" if told else "no workflow has selectors"
