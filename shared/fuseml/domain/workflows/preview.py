"""Preview of the bindings and environment of a workflow step from a snapshot of the registry.

The rules are those of a run: `domain.registry.resolution` chooses; as in `domain.plans.planning`, later selectors override earlier ones,
`env` overrides all, and every key that the step reads as `{{ extension.NAME.cfg.KEY }}` must exist. Credentials values are opaque.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fuseml.domain import workflows
from fuseml.domain.documents import expression
from fuseml.domain.registry import extension, registry, resolution
from fuseml.domain.registry.selector import Binding, Context, Resolution, Selector
from fuseml.domain.workflows import references


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
    """The bindings of a step by selector, the reasons for selectors without a usable binding, and the values of the environment by key."""

    bindings: Mapping[str, Binding]
    reasons: Mapping[str, str]
    environment: Mapping[str, Value]


class RegistrySnapshot:
    """A snapshot of the registry. Workflows share selectors, so resolutions are cached. `home` is the control plane's own zone, where runs are."""

    def __init__(self, records: Sequence[extension.Extension], home: str) -> None:
        self._records = {record.id: record for record in records}
        self._home = home
        self._resolutions: dict[tuple[Selector, str, str], Resolution] = {}

    def preview(self, workflow: workflows.Workflow, step: workflows.Step, project: str, user: str) -> StepPreview:
        """The preview of `step` for a run of this project and user."""
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
        return StepPreview(bindings, reasons, {key: value for key, value in values.items() if key not in overridden})

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
                yield key, Value(binding.name, True, (binding.extension_id, *place, sealed[key]))


def _keys_read(workflow: workflows.Workflow, step: workflows.Step) -> dict[tuple[str, str], None]:
    """(selector, key) of every `{{ extension.NAME.cfg.KEY }}` in the texts of the step."""
    scope = next(scope for other, scope in references.scopes(workflow) if other.name == step.name)
    nodes = (node for use in references.texts(step) if expression.may_refer(use.text) for node in expression.parse(use.text, scope.knows))
    return {(node.selector, node.key): None for node in nodes if isinstance(node, expression.ExtensionReference) and node.key}
