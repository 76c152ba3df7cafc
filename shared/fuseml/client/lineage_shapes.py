"""Documents about provenance and the differences of runs, as dictionaries with known keys (see `shapes`)."""

from __future__ import annotations

from typing import TypedDict


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
