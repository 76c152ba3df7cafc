"""Templates in a project: the values and patterns of their inputs become a workflow, and its assignments.

A pattern is narrowed to the project: `code://*` means every codeset of the project, present and future ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fuseml.domain import artifact, errors, scalars
from fuseml.domain.artifacts import subscription
from fuseml.domain.documents import document
from fuseml.domain.pipelines.templates import Template, takes_patterns
from fuseml.domain.runnables import descriptor
from fuseml.domain.workflows import Workflow, loading, parameters
from fuseml.domain.workflows.models import Input

_ADDRESS = re.compile(rf"({'|'.join(artifact.KINDS)})://")


@dataclass(frozen=True, slots=True)
class Addition:
    """The workflow of a template in a project, the patterns that it is assigned to, and the addresses that its inputs are fixed to."""

    workflow: Workflow
    patterns: Sequence[str] = ()
    addresses: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Given:
    """The meaning of a value: a pattern, or the text that an input is fixed to; `address` is that of one artifact."""

    pattern: str = ""
    text: str = ""
    address: str = ""


def fill(template: Template, name: str, project: str, inputs: Mapping[str, str]) -> Addition:
    """The workflow `name` of the template in the project. Raises InvalidError with every input that is wrong or missing."""
    source = template.workflow
    declared = {item.name: item for item in source.inputs}
    problems: list[errors.Problem] = []
    found: dict[str, _Given] = {}
    values, unknown = parameters.collected(source, inputs)
    problems += unknown
    for given, value in values.items():
        if given not in declared:
            near = document.nearest(given, list(declared))
            listed = "" if near else f"; it has {', '.join(declared) or 'none'}"
            problems.append(errors.Problem(f"inputs.{given[:100]}", f"the template has no such input{listed}", suggestion=near))
            continue
        try:
            found[given] = _read(declared[given], value, project)
        except errors.InvalidError as error:
            problems.append(errors.Problem(f"inputs.{given}", error.message))
    problems += _missing(source, set(values))
    if not problems:
        problems += _triggers(source, {given: item.pattern for given, item in found.items() if item.pattern})
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise errors.InvalidError(f"the template {template.reference} cannot be added: {problems[0]}{more}", problems)
    fixed = [item.model_copy(update={"default": found[item.name].text}) if _is_fixed(item, found) else item for item in source.inputs]
    workflow = source.model_copy(update={"name": name, "inputs": fixed, "template": template.origin})
    # With the values, the rules hold for the whole: a default must be plain text, and the name one that a workflow may have.
    checked = loading.check(document.Parsed(workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)))
    return Addition(
        checked, [item.pattern for item in found.values() if item.pattern], [item.address for item in found.values() if item.address]
    )


def _is_fixed(item: Input, found: Mapping[str, _Given]) -> bool:
    return item.name in found and not found[item.name].pattern and not item.is_codeset


def _read(item: Input, value: str, project: str) -> _Given:
    kind = descriptor.ARTIFACTS.get(item.type)
    match = _ADDRESS.match(value)
    if kind is None or match is None:
        if item.is_codeset:
            raise errors.InvalidError(f"{value[:100]!r} is no codeset; write code://{project}/NAME, or code://* for all of the project")
        if kind is not None and "*" in value:
            raise errors.InvalidError(f"{value[:100]!r} is no pattern of artifacts; write {kind}://* for each {item.type} of the project")
        fault = scalars.fault(item.type, value)
        if fault:
            raise errors.InvalidError(fault)
        return _Given(text=value)
    if match[1] != kind:
        raise errors.InvalidError(f"the input is a {item.type}, and {value[:100]!r} is of another kind: {match[1]}")
    place, question, filters = value.partition("?")
    exact = _exact(place, kind)
    if exact is None:
        pattern = str(subscription.parse(_narrowed(place, project) + question + filters))
        return _Given(pattern=pattern)
    if exact.project != project:
        raise _foreign(value, project)
    if item.is_codeset:
        raise errors.InvalidError(
            f"{value[:100]!r} is one version of a codeset, and a pipeline runs on each new one: write code://{project}/{exact.name}"
        )
    if question:
        raise errors.InvalidError(f"{value[:100]!r} names one artifact, and has nothing to filter")
    return _Given(text=value, address=value)


def _exact(place: str, kind: str) -> artifact.Address | artifact.Tagged | None:
    """The artifact that the text names; None for a pattern: with `*`, or without a version."""
    if "*" in place or (place.count("/") <= 3 and "@" not in place):
        return None
    return artifact.reference(place)


def _narrowed(place: str, project: str) -> str:
    """The pattern within the project. Raises InvalidError for one of another project."""
    kind, _, rest = place.partition("://")
    owner, slash, name = rest.partition("/")
    # The name of a dataset may hold a slash, that of a codeset cannot.
    if "@" in name or (kind == "code" and "/" in name):
        raise errors.InvalidError(
            f"{place[:100]!r} would match nothing: a pattern names artifacts, and no versions or tags of them; write {kind}://{owner}/NAME"
        )
    if rest == "*" or (owner == "*" and slash):
        return f"{kind}://{project}/{name or '*'}"
    if owner != project:
        raise _foreign(place, project)
    return place


def _foreign(text: str, project: str) -> errors.InvalidError:
    return errors.InvalidError(
        f"{text[:100]!r} is not of the project {project!r}, and a pipeline takes the artifacts of the project that it is added to"
    )


def _missing(workflow: Workflow, given: set[str]) -> list[errors.Problem]:
    return [
        errors.Problem(f"inputs.{item.name}", f"this input needs a value: {_example(item)}")
        for item in workflow.inputs
        if item.name not in given and (item.is_codeset or not item.is_optional)
    ]


def _example(item: Input) -> str:
    value = f"'{descriptor.ARTIFACTS[item.type]}://*'" if takes_patterns(item.type) else "VALUE"
    return f"--input {item.name}={value}" + (f" ({item.description})" if item.description else "")


def _triggers(workflow: Workflow, patterns: Mapping[str, str]) -> list[errors.Problem]:
    """What prevents that an artifact of a pattern starts a run with the artifact as the value of this input."""
    problems: list[errors.Problem] = []
    codesets = [item.name for item in workflow.inputs if item.is_codeset]
    for number, (name, pattern) in enumerate(patterns.items()):
        path, kind = f"inputs.{name}", pattern.partition(":")[0]
        if number:
            first = next(iter(patterns))
            message = f"one input takes a pattern, because one artifact starts a run, and {first} has one: name one artifact"
            problems.append(errors.Problem(path, message))
        elif kind != "code" and codesets:
            message = f"a run that a {kind} starts has no code, which {codesets[0]} needs: name one {kind}"
            problems.append(errors.Problem(path, message))
        elif kind != "code" and (taker := _taker(workflow, kind)) != name:
            problems.append(errors.Problem(path, f"a {kind} that starts a run is the value of the input {taker!r}: name one {kind} here"))
    return problems


def _taker(workflow: Workflow, kind: str) -> str | None:
    """The input that gets the artifact that starts a run, as the dispatcher chooses it."""
    return next((item.name for item in workflow.inputs if item.type == kind), None)
