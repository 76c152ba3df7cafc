"""The command lines of a step, for `helm`, `kubectl` and a shell. Values are joined to their options, so that none becomes an option."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fuseml.domain.installation import description
from fuseml.domain.installation.description import Description, Step

MANAGER = "fuseml"
"""The owner of the fields that the installer applies."""
HELM_TIMEOUT = "10m"

Place = Callable[[str], str]
"""Maps a path of a description to that of its file; addresses stay."""


def key(owner: Description, step: Step) -> str:
    """The identity of a step over versions of its description."""
    subject = owner.release(step) if step.type == "helm" else step.location
    return f"{step.type} {owner.namespace_of(step)}/{subject}"


def install(owner: Description, step: Step, place: Place, *, repeated: bool = False) -> Sequence[str]:
    """The command of a step. Repeated, it has no further effect; a script decides that itself.

    Only a `repeated` step takes fields over: at first a field that belongs to another owner means that the object is not the tool's.
    """
    namespace = owner.namespace_of(step)
    match step.type:
        case "helm":
            return (
                *("helm", "upgrade", owner.release(step), *_chart(step, place), "--install", "--wait", f"--timeout={HELM_TIMEOUT}"),
                *([f"--version={step.version}"] if step.version else ()),
                *([f"--values={place(step.values)}"] if step.values else ()),
                *_namespace(namespace),
                *(["--create-namespace"] if namespace else ()),
                "--output=json",
            )
        case "script":
            return ("sh", place(step.location))
        case "manifest" | "kustomize":
            option = "--filename" if step.type == "manifest" else "--kustomize"
            return (
                *("kubectl", "apply", "--server-side", f"--field-manager={MANAGER}"),
                *(["--force-conflicts"] if repeated else ()),
                f"{option}={place(step.location)}",
                *_namespace(namespace),
            )


def remove(owner: Description, step: Step, place: Place) -> Sequence[str]:
    """The command that takes a step back, or of a step of `uninstall`. Repeated, it has no further effect.

    That of a helm step fails without the release.
    """
    namespace = owner.namespace_of(step)
    match step.type:
        case "helm":
            return ("helm", "uninstall", owner.release(step), "--wait", f"--timeout={HELM_TIMEOUT}", *_namespace(namespace))
        case "script":
            return ("sh", place(step.location))
        case "manifest" | "kustomize":
            option = "--filename" if step.type == "manifest" else "--kustomize"
            return ("kubectl", "delete", "--ignore-not-found", f"{option}={place(step.location)}", *_namespace(namespace))


def releases(owner: Description, step: Step) -> Sequence[str]:
    """The command that lists the release of a helm step in any state, as JSON."""
    return (
        *("helm", "list", "--all", f"--filter=^{owner.release(step)}$", "--output=json"),
        *_namespace(owner.namespace_of(step)),
    )


def summary(owner: Description, step: Step) -> str:
    """A step in words, for the plan and the progress."""
    match step.type:
        case "helm":
            chart = step.chart or step.location.rstrip("/").rpartition("/")[2]
            return f"helm chart {' '.join(filter(None, (chart, step.version)))}"
        case "manifest":
            return f"manifest {_short(step.location)}"
        case "kustomize":
            return f"kustomization {_short(step.location)}"
        case "script":
            return f"script {step.location}"


def _chart(step: Step, place: Place) -> Sequence[str]:
    if step.location:
        return (place(step.location),)
    if step.repo.startswith("oci://"):
        return (f"{step.repo.rstrip('/')}/{step.chart}",)
    return (step.chart, f"--repo={step.repo}")


def _namespace(namespace: str) -> Sequence[str]:
    return [f"--namespace={namespace}"] if namespace else []


def _short(place: str) -> str:
    return place.rpartition("/")[2] if description.is_url(place) else place
