"""Documents about provenance, the results of code and the differences of runs, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import TypedDict

from fuseml.client import shapes


class Signature(TypedDict):
    """A signature of an envelope; `keyid` is the SHA-256 of the public key."""

    keyid: str
    sig: str


class Envelope(TypedDict):
    """A DSSE envelope: a payload in base64, and its signatures."""

    payload: str
    payloadType: str
    signatures: list[Signature]


class Difference(TypedDict):
    """A fact of two runs: `a` is that of the first, null where it has none."""

    kind: str
    name: str
    a: str | None
    b: str | None
    equal: bool


class RunDiff(TypedDict):
    """The facts in which run `b` differs from run `a`. `same_results`: all that the runs have made are equal."""

    a: str
    b: str
    equal: bool
    same_results: bool
    differences: list[Difference]


class ResultInput(TypedDict):
    """An input of a run. `address` is that of the artifact that it names; `default`: the run was not given it."""

    name: str
    value: str
    address: str | None
    default: bool


class ResultOutput(TypedDict):
    """An output of a run, or an artifact that it made beside them: then `name` is its kind."""

    name: str
    value: str
    address: str | None


class RunResult(TypedDict):
    """A run with what it took and what it made. `number` counts the runs of the workflow."""

    run: str
    workflow: str
    number: int
    state: str
    cause: str | None
    caused_by: str | None
    created: str
    finished: str | None
    inputs: list[ResultInput]
    outputs: list[ResultOutput]
    bindings: list[shapes.StepBinding]
