"""Preview of the bindings and environment of a workflow step from a snapshot of the registry.

The rules are those of a run: `domain.registry.resolution` chooses; as in `domain.plans.planning`, later selectors override earlier ones,
`env` overrides all, and every key that the step reads as `{{ extension.NAME.cfg.KEY }}` must exist. Credentials values are opaque.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fuseml.domain import errors, workflows
from fuseml.domain.documents import expression
from fuseml.domain.registry import artifact_stores, extension, registry, resolution
from fuseml.domain.registry.selector import Binding, Context, Resolution, Selector
from fuseml.domain.workflows import references, store_needs

_NO_STORE = "no artifact store of the project holds a {kind} and has the needed operations"


class Value(NamedTuple):
    """A value of the environment: the selector that sets it, and its identity for comparison (of a secret, its address and sealed value)."""

    selector: str
    secret: bool
    identity: tuple[str, ...]

    @property
    def text(self) -> str:
        """The value or, of a secret, `<hidden>`."""
        return extension.HIDDEN if self.secret else self.identity[0]


@dataclass(frozen=True, slots=True)
class StepPreview:
    """The bindings of a step by selector, the reasons for selectors without a usable binding, and the values of the environment by key.

    The stores of its artifacts are among the bindings; `stores` has their configuration, by the name of the binding.
    """

    bindings: Mapping[str, Binding]
    reasons: Mapping[str, str]
    environment: Mapping[str, Value]
    stores: Mapping[str, Mapping[str, Value]]


class RegistrySnapshot:
    """A snapshot of the registry. Workflows share selectors, so resolutions are cached. `home` is the control plane's own zone, where runs are.

    `facts` are those of artifact stores.
    """

    def __init__(self, records: Sequence[extension.Extension], home: str, facts: artifact_stores.FactsOf) -> None:
        self._records = {record.id: record for record in records}
        self._home = home
        self._facts = facts
        self._resolutions: dict[tuple[Selector, str, str], Resolution] = {}

    def preview(
        self, workflow: workflows.Workflow, step: workflows.Step, project: str, user: str, needs: Sequence[store_needs.Need] = ()
    ) -> StepPreview:
        """The preview of `step`, which needs these artifact stores, for a run of this project and user."""
        bindings: dict[str, Binding] = {}
        reasons: dict[str, str] = {}
        read = _keys_read(workflow, step)
        for requirement in step.extensions:
            resolved = self._resolve(requirement, project, user)
            if not resolved.bindings:
                reasons[requirement.name] = resolution.nearest(resolved.explanations[0].candidates)
                continue
            binding = resolved.bindings[0]
            missing = [key for name, key in read if name == requirement.name and key not in binding.environment()]
            if missing:
                reasons[requirement.name] = f"{binding.extension_id}/{binding.service_id} has no {', '.join(missing)}, which the step reads"
            else:
                bindings[requirement.name] = binding
        values = {key: value for binding in bindings.values() for key, value in self._values(binding)}
        overridden = {variable.name for variable in step.env}
        environment = {key: value for key, value in values.items() if key not in overridden}
        stores: dict[str, Mapping[str, Value]] = {}
        for need in needs:
            try:
                found = self._store(need, project, user).model_copy(update={"name": need.name})
            except (errors.InvalidError, errors.UnresolvedError) as error:
                reasons[need.name] = error.message
            else:
                bindings[need.name], stores[need.name] = found, dict(self._values(found))
        return StepPreview(bindings, reasons, environment, stores)

    def _store(self, need: store_needs.Need, project: str, user: str) -> Binding:
        """The store for an artifact. Raises UnresolvedError, and InvalidError for one without the needed operations."""
        if need.wanted is None:
            holder = self._best(need.kind, need.operations, Selector(), project, user)
        else:
            asked = artifact_stores.one_service(need.wanted).model_copy(update={"name": need.name})
            resolved = self._resolve(asked, project, user)
            if not resolved.bindings:
                raise errors.UnresolvedError(resolution.nearest(resolved.explanations[0].candidates))
            [holder] = resolved.bindings
            facts = self._facts(holder)
            if missing := sorted(need.operations - facts.capabilities):
                raise errors.InvalidError(f"{holder.extension_id}/{holder.service_id} cannot {' and '.join(missing)} contents")
            if need.kind and need.kind not in facts.kinds:
                raise errors.InvalidError(f"{holder.extension_id}/{holder.service_id} holds no {need.kind}")
        if need.read_from is None:
            return holder
        pinned = artifact_stores.pinned(need.read_from, holder)
        if pinned is not None and self._resolve(pinned, project, user).bindings:
            return holder
        return self._best(need.kind, artifact_stores.WRITES, need.read_from, project, user)

    def _best(self, kind: str, needed: frozenset[str], wanted: Selector, project: str, user: str) -> Binding:
        context = Context(project=project, user=user, zone=self._home)
        each = artifact_stores.for_each_resource(wanted, kind, self._resources)
        choices = [resolution.choose(selector, list(self._records.values()), context, home=self._home) for selector in each]
        matched = sorted(
            (choice for choice in choices if choice.binding), key=lambda choice: (choice.matches[0].rank, choice.matches[0].tie_break)
        )
        best = artifact_stores.best((choice.binding for choice in matched if choice.binding), kind, needed, self._facts)
        if best is None:
            raise errors.UnresolvedError(_NO_STORE.format(kind=kind or "artifact"))
        return best

    def _resources(self, category: str) -> list[str]:
        services = (service for record in self._records.values() for service in record.services)
        return sorted({service.resource for service in services if service.category == category})

    def _resolve(self, selector: Selector, project: str, user: str) -> Resolution:
        key = selector, project, user
        if key not in self._resolutions:
            context = Context(project=project, user=user, zone=self._home)
            self._resolutions[key] = resolution.attempt([selector], self._records.values(), context, home=self._home)
        return self._resolutions[key]

    def _values(self, binding: Binding) -> Iterator[tuple[str, Value]]:
        for key, value in binding.configuration.items():
            yield key, Value(binding.name, False, (value,))
        if binding.secret_keys:
            place = ("services", binding.service_id, "credentials", binding.credentials_id)
            sealed = registry.find(self._records[binding.extension_id], place).configuration
            for key in binding.secret_keys:
                file = filter(None, [binding.secret_files.get(key)])
                yield key, Value(binding.name, True, (binding.extension_id, *place, sealed[key], *file))


def _keys_read(workflow: workflows.Workflow, step: workflows.Step) -> dict[tuple[str, str], None]:
    """(selector, key) of every `{{ extension.NAME.cfg.KEY }}` in the texts of the step."""
    scope = next(scope for other, scope in references.scopes(workflow) if other.name == step.name)
    nodes = (node for use in references.texts(step) if expression.may_refer(use.text) for node in expression.parse(use.text, scope.knows))
    return {(node.selector, node.key): None for node in nodes if isinstance(node, expression.ExtensionReference) and node.key}
