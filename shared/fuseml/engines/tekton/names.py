"""Names that Kubernetes and Tekton accept, derived from the names of workflows, steps and codesets.

Valid names stay unchanged, so that users recognise them. Names of objects are derived from the run's id: another submit of a plan uses
the same objects, and no name is used twice, because Tekton drops the events of a name that it has seen in the last two hours
(infra/platform-facts.md 2.4).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from fuseml.domain import labels, plans
from fuseml.engines.tekton import events

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_TASK = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Tekton allows dots, but reads the text after a dot as the key of an object.
_RESULT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_HEX_ID = re.compile(r"[0-9a-f]{16,}")


def is_label_value(text: str) -> bool:
    """Whether the text is a valid value of a label, and so of a selector."""
    return _LABEL_VALUE.fullmatch(text) is not None


def is_result(text: str) -> bool:
    """Whether Tekton accepts the text as the name of a result, and resolves a reference to it as a whole."""
    return _RESULT.fullmatch(text) is not None


def is_variable(text: str) -> bool:
    """Whether every release of Kubernetes accepts the text as the name of an environment variable."""
    return _VARIABLE.fullmatch(text) is not None


def run_name(workflow: str, run_id: str) -> str:
    """The name of a run's PipelineRun and Secret: at most 41 characters, because the names of TaskRuns and pods begin with it."""
    return f"{_slug(workflow, 24, 'run')}-{run_id[:16] if _HEX_ID.fullmatch(run_id) else _digest(run_id, 16)}"


def tasks(steps: Iterable[str]) -> dict[str, str]:
    """Step -> name of its task: the name of the step if it is a DNS label without the prefix that is reserved for auxiliary tasks."""
    all_steps = list(steps)
    named = {step: step for step in all_steps if _TASK.fullmatch(step) and not step.startswith(labels.AUXILIARY_PREFIX)}
    taken = set(named)
    for step in all_steps:
        if step in named:
            continue
        length = 8
        while (name := f"step-{_slug(step, 24, 'x')}-{_digest(step, length)}") in taken:
            length += 1
        named[step] = name
        taken.add(name)
    return named


def steps_annotation(named: Mapping[str, str]) -> dict[str, str]:
    """The annotation that `steps` reads; empty when every task has the name of its step."""
    differing = {task: step for step, task in named.items() if task != step}
    return {events.STEPS_ANNOTATION: json.dumps(differing, sort_keys=True)} if differing else {}


def steps(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Task -> step, for tasks whose names differ from their steps."""
    names: dict[str, str] = json.loads(annotations.get(events.STEPS_ANNOTATION, "{}"))
    return names


def outputs_annotation(constants: Mapping[str, str]) -> dict[str, str]:
    """The annotation that `outputs` reads; empty without constant outputs."""
    return {events.OUTPUTS_ANNOTATION: json.dumps(constants, sort_keys=True)} if constants else {}


def outputs(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """The outputs of the run that are constant, and so known before its start."""
    constants: dict[str, str] = json.loads(annotations.get(events.OUTPUTS_ANNOTATION, "{}"))
    return constants


def clone(checkout: plans.Checkout) -> str:
    """The name of the task that clones a codeset, and of its folder on the run's volume."""
    identity = json.dumps([checkout.url, checkout.project, checkout.codeset, checkout.commit, *([checkout.own] if checkout.own else [])])
    return f"{labels.AUXILIARY_PREFIX}clone-{_slug(checkout.codeset, 24, 'codeset')}-{_digest(identity, 8)}"


def secret_key(part: plans.SecretPart) -> str:
    """The key of a secret in the run's Secret, unique for each secret."""
    key = part.ref.replace("/", ".")
    return f"secret.{key}" if _KEY.fullmatch(key) and key.count(".") == 3 else f"secret.{_digest(part.ref, 32)}"


def _slug(text: str, limit: int, fallback: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or fallback


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
