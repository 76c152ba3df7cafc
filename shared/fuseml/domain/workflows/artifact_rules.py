"""The consistency rules of artifacts in steps: addresses, paths, and the stores that must be known before the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fuseml.domain import artifact, errors
from fuseml.domain.documents import document, expression
from fuseml.domain.registry import selector
from fuseml.domain.workflows import references
from fuseml.domain.workflows.models import ArtifactInput, ArtifactOutput, Step, Workflow

URI_SUFFIX = "-uri"
"""Suffix of the output with the URI of a collected artifact; it exists if a later step refers to the artifact."""

ANONYMOUS = "anonymous/"
"""The beginning of the names of anonymous artifacts in their stores."""

_READ = {"code": "a codeset is checked out: give the step a `codeset`", "image": "an image is run: name it as the image of a step"}

Violation = tuple[document.Path, str]


def path_of(name: str, declared: ArtifactInput) -> str:
    """The path of the contents within the step."""
    return declared.path or f"/artifacts/{name}"


def is_output_path(path: str) -> bool:
    """Whether the path is one below the folder in which the step runs."""
    parts = path.split("/")
    is_below = not path.startswith("/") and ".." not in parts and any(part not in ("", ".") for part in parts)
    return is_below and not any(character in path for character in "\0\n\\")


def check_address(text: str) -> artifact.Address | artifact.Tagged:
    """The reference, if a step can read such an artifact. Raises InvalidError."""
    reference = artifact.reference(text)
    if reference.kind in _READ:
        raise errors.InvalidError(f"a step does not read {text[: artifact.LONGEST]!r} as an artifact; {_READ[reference.kind]}")
    return reference


def check_output_name(kind: str, name: str) -> None:
    """Raises InvalidError for a name that no address of the kind can hold."""
    if name.startswith(ANONYMOUS):
        raise errors.InvalidError(f"names that begin with {ANONYMOUS!r} are those of anonymous artifacts; choose another one")
    if "@" in name:
        raise errors.InvalidError(f"{name[:100]!r} is not a name of artifacts: it holds '@', which marks a tag")
    address = artifact.Address(kind, "project", name, "version")
    if artifact.Address.parse(str(artifact.check_new(address))) != address:
        raise errors.InvalidError(f"{name[:100]!r} is not a name of artifacts")


def violations(step: Step) -> Iterator[Violation]:
    """The violations of one step: their paths within it, and messages."""
    used = False
    for index, item in enumerate(step.inputs):
        if item.artifact:
            used = True
            yield from _prefixed(("inputs", index, "artifact"), _input(item.artifact))
    yield from _overlaps(step)
    names = {output.name for output in step.outputs}
    for index, output in enumerate(step.outputs):
        if output.artifact and output.image:
            yield ("outputs", index), "an output is either an image or an artifact, not both"
        elif output.artifact:
            used = True
            yield from _prefixed(("outputs", index, "artifact"), _output(output.artifact))
            if output.name + URI_SUFFIX in names:
                yield (
                    ("outputs", index, "name"),
                    f"the name {output.name + URI_SUFFIX!r} is that of this artifact's URI; rename that output",
                )
    if used and any(output.image for output in step.outputs):
        yield ("outputs",), "a step that builds an image has no artifacts; use a step of its own"


def _prefixed(path: document.Path, found: Iterator[Violation]) -> Iterator[Violation]:
    return (((*path, *place), message) for place, message in found)


def _input(declared: ArtifactInput) -> Iterator[Violation]:
    if not expression.may_refer(declared.address) and declared.address != expression.HOLE:
        try:
            check_address(declared.address)
        except errors.InvalidError as error:
            yield ("address",), error.message
    if declared.access == "reference" and declared.path:
        yield ("path",), "with `access: reference` nothing is put at a path; remove it"
    elif declared.path not in ("", expression.HOLE) and not _is_absolute(declared.path):
        yield ("path",), f"{declared.path!r} is not an absolute path below /, such as /data"
    yield from _selector(declared)


def _output(declared: ArtifactOutput) -> Iterator[Violation]:
    if declared.path != expression.HOLE and not is_output_path(declared.path):
        yield ("path",), f"{declared.path!r} is not a path below the folder in which the step runs, such as out/model"
    if declared.anonymous and declared.name:
        yield ("name",), "an anonymous artifact has no name; remove it"
    elif declared.name not in ("", expression.HOLE) and not expression.holds_expression(declared.name) and declared.kind in artifact.KINDS:
        try:
            check_output_name(declared.kind, declared.name)
        except errors.InvalidError as error:
            yield ("name",), error.message
    yield from _selector(declared)


def _selector(declared: ArtifactInput | ArtifactOutput) -> Iterator[Violation]:
    for field in selector.TEXTS:
        if declared.store and expression.holds_expression(getattr(declared.store, field)):
            yield ("store", field), "a selector is plain text and cannot hold an expression"


def _overlaps(step: Step) -> Iterator[Violation]:
    """Contents at a path at which, or below which, the step has something else."""
    taken = [mount.path.rstrip("/") for mount in step.mounts]
    for index, item in enumerate(step.inputs):
        if item.artifact is None or item.artifact.access == "reference":
            continue
        path = path_of(item.name, item.artifact).rstrip("/")
        other = next((other for other in taken if f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")), None)
        if other is not None:
            yield ("inputs", index, "artifact"), f"the step has something else at {other}, and {path} overlaps it; choose another path"
        taken.append(path)


def _is_absolute(path: str) -> bool:
    return path.startswith("/") and path.strip("/") != "" and ".." not in path.split("/") and not any(c in path for c in ":\0\n{}")


def producer(item: ArtifactInput, scope: expression.Scope) -> expression.OutputReference | None:
    """The output that the whole address is; None for any other address."""
    nodes, _ = expression.read(item.address, scope.knows)
    return nodes[0] if len(nodes) == 1 and isinstance(nodes[0], expression.OutputReference) else None


def is_output_text(item: ArtifactInput, scope: expression.Scope) -> bool:
    """Whether the address holds the output of a step."""
    nodes, _ = expression.read(item.address, scope.knows)
    return any(isinstance(node, expression.OutputReference) for node in nodes)


def unknown_stores(workflow: Workflow) -> Iterator[Violation]:
    """Addresses that only a step will write, in no known store."""
    made = artifact_outputs(workflow)
    for index, (step, scope) in enumerate(references.scopes(workflow)):
        for number, item in enumerate(step.inputs):
            if item.artifact is None or item.artifact.store:
                continue
            nodes, _ = expression.read(item.artifact.address, scope.knows)
            read = [node for node in nodes if isinstance(node, expression.OutputReference)]
            source = producer(item.artifact, scope)
            if read and (source is None or (source.step, source.output) not in made):
                yield (
                    ("steps", index, "inputs", number, "artifact", "address"),
                    f"'{{{{ {read[0]} }}}}' is text, and its store is unknown before the run: make it an artifact of step {read[0].step!r} "
                    "(outputs, artifact), or name the store by `store`",
                )


def artifact_outputs(workflow: Workflow) -> Mapping[tuple[str, str], ArtifactOutput]:
    """(Step, output) -> the artifact that is the output."""
    return {(step.name, output.name): output.artifact for step in workflow.steps for output in step.outputs if output.artifact}
