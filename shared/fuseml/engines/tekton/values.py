"""Values of a plan in fields in which Tekton and Kubernetes substitute variables.

Tekton replaces `$(params.x)`, `$(context.taskRun.name)` and similar variables in every text of a task, in several passes and without an
escape (infra/platform-facts.md 2.6): `$$(params.x)` becomes `$` and the value. Then the kubelet replaces `$(NAME)` in the environment and
in arguments, where `$$` stands for `$`. Neither substitutes variables in values from a Secret. Hence:

- The run's Secret holds secrets, and texts that Tekton would replace as variables.
- All other text is escaped for the kubelet where the kubelet substitutes.
- The kubelet joins a value of several parts, from variables that precede it (`FUSEML_PART_0`, ...).
- An output of another step is a parameter of the task. Its text is unknown before the run, so Tekton and the kubelet substitute a
  `$(...)` in it. Outputs are names and addresses; outputs with such text are not supported.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fuseml.domain import plans
from fuseml.engines.tekton import names

Object = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON."""

SECRET_PREFIX = "secret."  # noqa: S105 - the beginning of keys, see names.secret_key
"""The prefix of the keys of secrets; other keys hold text that is not masked."""

CREDENTIALS_FOLDER = "/fuseml-credentials"
"""The folder of the secrets that a step gets as files."""

_VARIABLE_OF_TEKTON = re.compile(r"\$\((params|inputs|outputs|context|results|steps?|artifacts|workspaces|credentials|tasks|finally)[.\[]")


def merged(value: plans.Value) -> plans.Value:
    """The value with adjacent texts joined, so that a variable that spans two texts is detected."""
    if len(value) < 2:
        return value
    result: list[plans.Part] = []
    for is_text, parts in itertools.groupby(value, key=lambda part: isinstance(part, plans.TextPart)):
        if is_text:
            result.append(plans.TextPart(text="".join(part.text for part in parts if isinstance(part, plans.TextPart))))
        else:
            result += parts
    return tuple(result)


def is_dynamic(value: plans.Value) -> bool:
    """Whether the value contains outputs of other steps."""
    return any(isinstance(part, plans.OutputPart) for part in value)


def is_variable(value: plans.Value) -> bool:
    """Whether Tekton may replace a text of the value as a variable."""
    return any(isinstance(part, plans.TextPart) and _VARIABLE_OF_TEKTON.search(part.text) for part in merged(value))


def needs_mount(script: plans.Value) -> bool:
    """Whether a script must be mounted from the Secret, where Tekton does not substitute variables."""
    return is_variable(script) and not is_dynamic(script)


class SecretBundle:
    """The contents of the run's Secret. `contents` grows while the run's tasks are rendered."""

    def __init__(self, name: str, secrets: Mapping[str, str]) -> None:
        self.name = name
        self.contents: dict[str, str] = {}
        self._secrets = secrets
        self._texts: dict[str, str] = {}

    @property
    def secret_keys(self) -> list[str]:
        """The keys of the secrets, without those of other texts."""
        return sorted(key for key in self.contents if key.startswith(SECRET_PREFIX))

    def secret(self, part: plans.SecretPart) -> str:
        """Add a secret; returns its key."""
        key = names.secret_key(part)
        self.contents[key] = self._secrets[part.ref]
        return key

    def account(self, checkout: plans.Checkout) -> tuple[str, str] | None:
        """Add the account that reads a codeset; returns the keys of its user name and password, None for a public codeset."""
        account = self._secrets.get(checkout.account)
        if account is None:
            return None
        username, _, password = account.partition(":")
        key = f"{SECRET_PREFIX}{names.clone(checkout)}"
        self.contents[key] = password
        return self.text(username), key

    def text(self, text: str) -> str:
        """Add a text; returns its key."""
        key = self._texts.setdefault(text, f"text.{len(self._texts)}")
        self.contents[key] = text
        return key

    def script(self, task: str, script: str) -> str:
        """Add the script of a task; returns its key."""
        key = f"script.{task}"
        self.contents[key] = script
        return key

    def file(self, task: str, name: str, text: str) -> str:
        """Add a file of a task; returns its key."""
        key = f"file.{task}.{name}"
        self.contents[key] = text
        return key

    def reference(self, key: str) -> Object:
        """The source of an environment variable with the value of a key."""
        return {"secretKeyRef": {"name": self.name, "key": key}}


class Parameters:
    """The parameters of one task: the outputs of other steps that it uses. `tasks` maps steps to the names of their tasks."""

    def __init__(self, tasks: Mapping[str, str]) -> None:
        self._tasks = tasks
        self._names: dict[tuple[str, str], str] = {}

    @property
    def results(self) -> dict[str, str]:
        """Parameter -> reference to its result."""
        return {name: result(self._tasks[step], output) for (step, output), name in self._names.items()}

    @property
    def steps(self) -> set[str]:
        """The steps whose outputs the task uses, and which it therefore waits for."""
        return {step for step, _ in self._names}

    def variable(self, part: plans.OutputPart) -> str:
        """The variable of an output in the texts of the task."""
        name = self._names.setdefault((part.step, part.output), f"output-{len(self._names)}")
        return f"$(params.{name})"


class Writer:
    """Renders the values of one container of a task. `variables` is its environment."""

    def __init__(self, bundle: SecretBundle, parameters: Parameters, variables: Mapping[str, plans.Value]) -> None:
        self._bundle = bundle
        self._parameters = parameters
        self._variables = variables
        self._parts: dict[str, str] = {}

    def plain(self, value: plans.Value) -> str:
        """A value where only Tekton substitutes variables: the image and scripts. `admission` rejects secrets and Tekton's variables in it."""
        return "".join(part.text if isinstance(part, plans.TextPart) else self._output(part) for part in merged(value))

    def argument(self, value: plans.Value) -> str:
        """A value where the kubelet substitutes variables: arguments and the environment."""
        return "".join(self._expanded(part) for part in merged(value))

    def environment(self) -> list[Object]:
        """The container's variables, preceded by the parts of variables and arguments. Render the arguments first."""
        own = [self._variable(name, value) for name, value in self._variables.items()]
        return [{"name": name, "valueFrom": self._bundle.reference(key)} for key, name in self._parts.items()] + own

    def _variable(self, name: str, value: plans.Value) -> Object:
        parts = merged(value)
        if len(parts) == 1 and (key := self._key(parts[0])) is not None:
            return {"name": name, "valueFrom": self._bundle.reference(key)}
        return {"name": name, "value": self.argument(parts)}

    def _expanded(self, part: plans.Part) -> str:
        key = self._key(part)
        if key is not None:
            return f"$({self._part(key)})"
        if isinstance(part, plans.SecretPart):
            return f"{CREDENTIALS_FOLDER}/{part.path}"
        return part.text.replace("$", "$$") if isinstance(part, plans.TextPart) else self._output(part)

    def _key(self, part: plans.Part) -> str | None:
        if isinstance(part, plans.SecretPart):
            return None if part.path else self._bundle.secret(part)
        return self._bundle.text(part.text) if isinstance(part, plans.TextPart) and is_variable((part,)) else None

    def _part(self, key: str) -> str:
        if key not in self._parts:
            taken = {*self._variables, *self._parts.values()}
            self._parts[key] = next(name for number in itertools.count() if (name := f"FUSEML_PART_{number}") not in taken)
        return self._parts[key]

    def _output(self, part: plans.Part) -> str:
        assert isinstance(part, plans.OutputPart)
        return self._parameters.variable(part)


def result(task: str, name: str) -> str:
    """A reference to a result of a task."""
    return f"$(tasks.{task}.results.{name})"


def holds(condition: plans.Condition) -> bool | None:
    """Whether a condition holds before the run; None when it depends on an output."""
    if any(map(is_dynamic, (condition.input, *condition.values))):
        # An empty list decides without the output, and Tekton rejects one.
        return None if condition.values else condition.operator == "notin"
    contained = constant(condition.input) in map(constant, condition.values)
    return contained is (condition.operator == "in")


def undecided(conditions: Sequence[plans.Condition]) -> Sequence[plans.Condition] | None:
    """The conditions that depend on outputs; None when another condition does not hold."""
    decisions = [(condition, holds(condition)) for condition in conditions]
    return None if any(held is False for _, held in decisions) else [condition for condition, held in decisions if held is None]


def sources(conditions: Sequence[plans.Condition]) -> set[str]:
    """The steps whose outputs the conditions use."""
    values = [value for condition in conditions for value in (condition.input, *condition.values)]
    return {part.step for value in values for part in value if isinstance(part, plans.OutputPart)}


def when(conditions: Sequence[plans.Condition] | None, tasks: Mapping[str, str]) -> list[Object]:
    """The result of `undecided` as Tekton's `when`. The other conditions are omitted, because Tekton would substitute variables in them."""
    if conditions is None:
        return [{"input": "false", "operator": "in", "values": ["true"]}]

    def text(value: plans.Value) -> str:
        return "".join(result(tasks[p.step], p.output) if isinstance(p, plans.OutputPart) else constant((p,)) for p in value)

    return [{"input": text(item.input), "operator": item.operator, "values": [text(value) for value in item.values]} for item in conditions]


def constant(value: plans.Value) -> str:
    """The text of a value that consists of texts only."""
    return "".join(part.text for part in value if isinstance(part, plans.TextPart))
