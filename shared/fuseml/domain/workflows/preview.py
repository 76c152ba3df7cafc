"""What a step of a workflow would get from the registry at one moment: bindings, the environment, and what it would miss.

By the rules of a run: `domain.registry.selector` chooses, and as in `domain.plans.planning` a later selector overrides an earlier one, `env` overrides
all of them, and a key that the step reads as `{{ extension.NAME.cfg.KEY }}` must be there. Credentials values are opaque.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fuseml.domain import workflows
from fuseml.domain.documents import expression
from fuseml.domain.registry import extension, registry, resolution, selector
from fuseml.domain.workflows import references


class Value(NamedTuple):
    """A value of the environment: the selector that it comes from, and what tells it from others; of a secret, the sealed value."""

    owner: str
    secret: bool
    mark: tuple[str, ...]

    @property
    def shown(self) -> str:
        """What may be shown of it."""
        return extension.HIDDEN if self.secret else self.mark[0]


@dataclass(frozen=True, slots=True)
class StepPreview:
    """Of one step: bindings by selector, the reason for each selector without one that serves, values by key."""

    bindings: Mapping[str, selector.Binding]
    reasons: Mapping[str, str]
    environment: Mapping[str, Value]


class RegistrySnapshot:
    """The registry at one moment. Workflows ask alike, so answers are kept. `home` is the control plane's own zone, where runs are."""

    def __init__(self, records: Sequence[extension.Extension], home: str) -> None:
        self._records = {record.id: record for record in records}
        self._home = home
        self._known: dict[tuple[selector.Selector, str, str], selector.Resolution] = {}

    def preview(self, checked: workflows.Workflow, step: workflows.Step, project: str, user: str) -> StepPreview:
        """What `step` of the workflow would get in a run of this project and user."""
        bindings: dict[str, selector.Binding] = {}
        reasons: dict[str, str] = {}
        read = _keys_read(checked, step)
        for wanted in step.extensions:
            found = self._resolve(wanted, project, user)
            if not found.bindings:
                near = resolution.nearest(found.explanations[0].candidates)
                reasons[wanted.name] = near or "the registry has no candidate for it"
                continue
            binding = found.bindings[0]
            missing = [key for name, key in read if name == wanted.name and key not in binding.environment()]
            if missing:
                reasons[wanted.name] = f"{binding.extension_id}/{binding.service_id} has no {', '.join(missing)}, which the step reads"
            else:
                bindings[wanted.name] = binding
        values = {key: value for binding in bindings.values() for key, value in self._values(binding)}
        overridden = {variable.name for variable in step.env}
        return StepPreview(bindings, reasons, {key: value for key, value in values.items() if key not in overridden})

    def _resolve(self, wanted: selector.Selector, project: str, user: str) -> selector.Resolution:
        asked = wanted, project, user
        if asked not in self._known:
            context = selector.Context(project=project, user=user, zone=self._home)
            self._known[asked] = resolution.attempt([wanted], self._records.values(), context, home=self._home)
        return self._known[asked]

    def _values(self, binding: selector.Binding) -> Iterator[tuple[str, Value]]:
        for key, value in binding.configuration.items():
            yield key, Value(binding.name, False, (value,))
        if binding.secret_keys:
            place = ("services", binding.service_id, "credentials", binding.credentials_id)
            sealed = registry.find(self._records[binding.extension_id], place).configuration
            for key in binding.secret_keys:
                yield key, Value(binding.name, True, (binding.extension_id, *place, sealed[key]))


def _keys_read(checked: workflows.Workflow, step: workflows.Step) -> dict[tuple[str, str], None]:
    """(selector, key) of every `{{ extension.NAME.cfg.KEY }}` in the texts of the step."""
    scope = next(scope for known, scope in references.scopes(checked) if known.name == step.name)
    nodes = (node for use in references.texts(step) if expression.may_refer(use.text) for node in expression.parse(use.text, scope.knows))
    return {(node.selector, node.key): None for node in nodes if isinstance(node, expression.ExtensionReference) and node.key}
