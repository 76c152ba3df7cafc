"""How the values of a plan are written where Tekton and Kubernetes look for variables of their own.

Tekton replaces `$(params.x)`, `$(context.taskRun.name)` and their like in every text of a task, in several passes, and has no escape
(infra/platform-facts.md 2.6): `$$(params.x)` becomes `$` and the value. Then the kubelet replaces `$(NAME)` in the environment and in
arguments, where `$$` stands for `$`. Neither looks into what an environment variable takes from a Secret. Hence:

- secrets, and text that Tekton would take for a variable of its own, travel in the run's Secret;
- every other text is escaped for the kubelet where it reads it;
- a value of several parts is put together by the kubelet, from variables that stand before it (`FUSEML_PART_0`, ...);
- an output of another step is a parameter of the task. Its text can be known to nobody before, so a `$(...)` in an output is read by
  Tekton and the kubelet as if it stood here. Outputs are names and addresses; those that hold it are not supported.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fuseml.domain import plans
from fuseml.engines.tekton import names

Object = dict[str, Any]
"""A piece of a Kubernetes object, as JSON has it."""

SECRET_PREFIX = "secret."  # noqa: S105 - the beginning of keys, see names.secret_key
"""How the keys of real secrets begin; the others hold text that need not be hidden."""

_VARIABLE_OF_TEKTON = re.compile(r"\$\((params|inputs|outputs|context|results|steps?|artifacts|workspaces|credentials|tasks|finally)[.\[]")


def merged(value: plans.Value) -> plans.Value:
    """The value with neighbouring texts made one: what two of them mean together, they must not mean unseen."""
    if len(value) < 2:
        return value
    found: list[plans.Part] = []
    for is_text, parts in itertools.groupby(value, key=lambda part: isinstance(part, plans.TextPart)):
        if is_text:
            found.append(plans.TextPart(text="".join(part.text for part in parts if isinstance(part, plans.TextPart))))
        else:
            found += parts
    return tuple(found)


def is_dynamic(value: plans.Value) -> bool:
    """Whether the value holds outputs of other steps."""
    return any(isinstance(part, plans.OutputPart) for part in value)


def is_variable(value: plans.Value) -> bool:
    """Whether Tekton would, or might, take a text of the value for a variable."""
    return any(isinstance(part, plans.TextPart) and _VARIABLE_OF_TEKTON.search(part.text) for part in merged(value))


def is_carried(script: plans.Value) -> bool:
    """Whether a script has to reach its step as a file from the Secret, where Tekton replaces nothing."""
    return is_variable(script) and not is_dynamic(script)


class SecretBundle:
    """What travels in the run's Secret. `contents` grows while the run's tasks are written."""

    def __init__(self, name: str, secrets: Mapping[str, str]) -> None:
        self.name = name
        self.contents: dict[str, str] = {}
        self._secrets = secrets
        self._texts: dict[str, str] = {}

    def secret(self, part: plans.SecretPart) -> str:
        """The key under which a secret is to be found."""
        key = names.secret_key(part)
        self.contents[key] = self._secrets[part.ref]
        return key

    def account(self, checkout: plans.Checkout) -> tuple[str, str] | None:
        """The keys of the user name and the password that read a codeset; None where everybody may."""
        known = self._secrets.get(checkout.account)
        if known is None:
            return None
        username, _, password = known.partition(":")
        key = f"{SECRET_PREFIX}{names.clone(checkout)}"
        self.contents[key] = password
        return self.text(username), key

    def text(self, text: str) -> str:
        """The key under which a text is to be found."""
        key = self._texts.setdefault(text, f"text.{len(self._texts)}")
        self.contents[key] = text
        return key

    def script(self, task: str, script: str) -> str:
        """The key under which a task's script is to be found."""
        key = f"script.{task}"
        self.contents[key] = script
        return key

    def reference(self, key: str) -> Object:
        """Where an environment variable finds the contents of a key."""
        return {"secretKeyRef": {"name": self.name, "key": key}}


class Parameters:
    """The parameters of one task: the outputs of other steps that it takes. `tasks` maps steps to the names of their tasks."""

    def __init__(self, tasks: Mapping[str, str]) -> None:
        self._tasks = tasks
        self._names: dict[tuple[str, str], str] = {}

    @property
    def results(self) -> dict[str, str]:
        """Parameter -> reference to the result that it takes."""
        return {name: result(self._tasks[step], output) for (step, output), name in self._names.items()}

    @property
    def steps(self) -> set[str]:
        """The steps whose outputs the task takes, and so waits for."""
        return {step for step, _ in self._names}

    def variable(self, part: plans.OutputPart) -> str:
        """How the task's texts speak of the output."""
        name = self._names.setdefault((part.step, part.output), f"output-{len(self._names)}")
        return f"$(params.{name})"


class Writer:
    """Writes the values of one container of a task. `variables` is its environment."""

    def __init__(self, bundle: SecretBundle, parameters: Parameters, variables: Mapping[str, plans.Value]) -> None:
        self._cargo = bundle
        self._parameters = parameters
        self._variables = variables
        self._parts: dict[str, str] = {}

    def plain(self, value: plans.Value) -> str:
        """A value where only Tekton replaces variables: the image, and scripts. `admission` has kept secrets and its variables out."""
        return "".join(part.text if isinstance(part, plans.TextPart) else self._output(part) for part in merged(value))

    def argument(self, value: plans.Value) -> str:
        """A value where the kubelet expands variables: in arguments and in the environment."""
        return "".join(self._expanded(part) for part in merged(value))

    def environment(self) -> list[Object]:
        """The container's variables, and before them those that they and its arguments are made of. Write the arguments first."""
        own = [self._variable(name, value) for name, value in self._variables.items()]
        return [{"name": name, "valueFrom": self._cargo.reference(key)} for key, name in self._parts.items()] + own

    def _variable(self, name: str, value: plans.Value) -> Object:
        parts = merged(value)
        if len(parts) == 1 and (key := self._key(parts[0])) is not None:
            return {"name": name, "valueFrom": self._cargo.reference(key)}
        return {"name": name, "value": self.argument(parts)}

    def _expanded(self, part: plans.Part) -> str:
        key = self._key(part)
        if key is not None:
            return f"$({self._part(key)})"
        return part.text.replace("$", "$$") if isinstance(part, plans.TextPart) else self._output(part)

    def _key(self, part: plans.Part) -> str | None:
        if isinstance(part, plans.SecretPart):
            return self._cargo.secret(part)
        return self._cargo.text(part.text) if isinstance(part, plans.TextPart) and is_variable((part,)) else None

    def _part(self, key: str) -> str:
        if key not in self._parts:
            taken = {*self._variables, *self._parts.values()}
            self._parts[key] = next(name for number in itertools.count() if (name := f"FUSEML_PART_{number}") not in taken)
        return self._parts[key]

    def _output(self, part: plans.Part) -> str:
        assert isinstance(part, plans.OutputPart)
        return self._parameters.variable(part)


def result(task: str, name: str) -> str:
    """A reference to what a task writes."""
    return f"$(tasks.{task}.results.{name})"


def holds(condition: plans.Condition) -> bool | None:
    """Whether a condition holds, as far as it is known before the run: None when it hangs on an output."""
    if any(map(is_dynamic, (condition.input, *condition.values))):
        # An empty list decides without looking, and Tekton does not accept one.
        return None if condition.values else condition.operator == "notin"
    listed = constant(condition.input) in map(constant, condition.values)
    return listed is (condition.operator == "in")


def undecided(conditions: Sequence[plans.Condition]) -> Sequence[plans.Condition] | None:
    """The conditions that only the run can decide: none when all the others hold, None when one of them does not."""
    known = [(condition, holds(condition)) for condition in conditions]
    return None if any(decided is False for _, decided in known) else [condition for condition, decided in known if decided is None]


def asked(conditions: Sequence[plans.Condition]) -> set[str]:
    """The steps whose outputs conditions ask for."""
    values = [value for condition in conditions for value in (condition.input, *condition.values)]
    return {part.step for value in values for part in value if isinstance(part, plans.OutputPart)}


def when(conditions: Sequence[plans.Condition] | None, tasks: Mapping[str, str]) -> list[Object]:
    """What `undecided` gives, in Tekton's form. The others are not left to Tekton, because it replaces variables in them too."""
    if conditions is None:
        return [{"input": "false", "operator": "in", "values": ["true"]}]

    def text(value: plans.Value) -> str:
        return "".join(result(tasks[p.step], p.output) if isinstance(p, plans.OutputPart) else constant((p,)) for p in value)

    return [{"input": text(item.input), "operator": item.operator, "values": [text(value) for value in item.values]} for item in conditions]


def constant(value: plans.Value) -> str:
    """The text of a value that holds nothing else."""
    return "".join(part.text for part in value if isinstance(part, plans.TextPart))
