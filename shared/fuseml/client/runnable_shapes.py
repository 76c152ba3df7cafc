"""Documents of the API of runnables, as dictionaries with known keys; a test holds them equal to the server's OpenAPI document."""

from __future__ import annotations

from typing import TypedDict


class Runnable(TypedDict):
    """A version of a reusable step. `fits` names the inputs that accept the artifact that was asked for.

    `id`, `container`, `input`, `output` and the default paths are the fields of the original's API.
    """

    id: str
    address: str
    project: str
    name: str
    version: str
    kind: str
    description: str
    author: str
    source: str
    labels: dict[str, str]
    image: str
    build: dict[str, object] | None
    command: list[str]
    args: list[str]
    script: str
    env: list[dict[str, object]]
    inputs: list[dict[str, object]]
    outputs: list[dict[str, object]]
    extensions: list[dict[str, object]]
    resources: dict[str, object]
    capabilities: list[str]
    digest: str
    built_in: bool
    run: str | None
    step: str | None
    by: str
    created: str
    fits: list[str]
    container: dict[str, object]
    input: dict[str, object]
    output: dict[str, object]
    defaultInputPath: str
    defaultOutputPath: str


class RunnableFilters(TypedDict, total=False):
    """Filters of runnables; a runnable matches all that are given.

    `id` and `kind` are parts of texts with the operators `|`, `.`, `.*`, `^` and `$`; `consumes` is the address of an artifact.
    """

    id: str | None
    kind: str | None
    project: str | None
    name: str | None
    consumes: str | None


class MatchReason(TypedDict):
    """The result of one criterion: `fits`, `unknown` or `refused`."""

    criterion: str
    verdict: str
    sentence: str


class Match(TypedDict):
    """Whether `offer`, an artifact or an output, fits the input of a runnable."""

    input: str
    offer: str
    verdict: str
    reasons: list[MatchReason]
