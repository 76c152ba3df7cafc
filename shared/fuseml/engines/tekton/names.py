"""Names that Kubernetes and Tekton accept, for whatever projects, workflows and steps are called.

What is legal stays as it is, so that people find it again. Names of objects follow from the run's id: submitting a plan again meets
the same objects, and no name is ever used twice, because Tekton drops the events of a name that it knew in the last two hours
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
# Tekton's own rule allows dots, but reads what stands behind one as the key of an object.
_RESULT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_HEX_ID = re.compile(r"[0-9a-f]{16,}")


def is_label_value(text: str) -> bool:
    """Whether the text can be the value of a label and be selected by."""
    return _LABEL_VALUE.fullmatch(text) is not None


def is_result(text: str) -> bool:
    """Whether Tekton takes the text as the name of a result, and a reference to it as the whole of it."""
    return _RESULT.fullmatch(text) is not None


def is_variable(text: str) -> bool:
    """Whether every release of Kubernetes takes the text as the name of an environment variable."""
    return _VARIABLE.fullmatch(text) is not None


def run_name(workflow: str, run_id: str) -> str:
    """The name of a run's PipelineRun and Secret. At most 41 characters: the names of TaskRuns and pods begin with it."""
    return f"{_slug(workflow, 24, 'run')}-{run_id[:16] if _HEX_ID.fullmatch(run_id) else _digest(run_id, 16)}"


def tasks(steps: Iterable[str]) -> dict[str, str]:
    """Step -> name of its task: the same where that is a DNS label and none of those kept for tasks that engines add."""
    listed = list(steps)
    named = {step: step for step in listed if _TASK.fullmatch(step) and not step.startswith(labels.AUXILIARY_PREFIX)}
    taken = set(named)
    for step in listed:
        if step in named:
            continue
        length = 8
        while (name := f"step-{_slug(step, 24, 'x')}-{_digest(step, length)}") in taken:
            length += 1
        named[step] = name
        taken.add(name)
    return named


def renamed(named: Mapping[str, str]) -> dict[str, str]:
    """The annotation from which `steps` reads the names back; none when every task is called like its step."""
    other = {task: step for step, task in named.items() if task != step}
    return {events.STEPS_ANNOTATION: json.dumps(other, sort_keys=True)} if other else {}


def steps(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Task -> step, for the tasks that are called otherwise than their steps."""
    found: dict[str, str] = json.loads(annotations.get(events.STEPS_ANNOTATION, "{}"))
    return found


def constants(known: Mapping[str, str]) -> dict[str, str]:
    """The annotation from which `outputs` reads them back; none when there are none."""
    return {events.OUTPUTS_ANNOTATION: json.dumps(known, sort_keys=True)} if known else {}


def outputs(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """The outputs of the run that were known before it started."""
    found: dict[str, str] = json.loads(annotations.get(events.OUTPUTS_ANNOTATION, "{}"))
    return found


def clone(checkout: plans.Checkout) -> str:
    """The name of the task that clones a codeset, and of the folder on the run's volume where it puts it."""
    identity = json.dumps([checkout.url, checkout.project, checkout.codeset, checkout.commit])
    return f"{labels.AUXILIARY_PREFIX}clone-{_slug(checkout.codeset, 24, 'codeset')}-{_digest(identity, 8)}"


def secret_key(part: plans.SecretPart) -> str:
    """The key under which a secret lies in the run's Secret; different secrets have different keys."""
    key = part.ref.replace("/", ".")
    return f"secret.{key}" if _KEY.fullmatch(key) and key.count(".") == 3 else f"secret.{_digest(part.ref, 32)}"


def _slug(text: str, limit: int, fallback: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-") or fallback


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
