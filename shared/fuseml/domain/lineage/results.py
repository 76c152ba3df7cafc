"""The results of a code version: the runs that took it, and in turn the runs that took the artifacts that those have made."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from fuseml.domain import artifact, errors
from fuseml.domain.plans import transfers

_COMMIT = re.compile("[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class Taker:
    """A run that was `given` artifacts, by their addresses."""

    name: str
    given: frozenset[str]


@dataclass(frozen=True, slots=True)
class Value:
    """An input or output of a run. `address` is that of the artifact that the value names; empty for any other value.

    `default`: the run was not given this input, and the workflow's default applied.
    """

    name: str
    value: str
    address: str = ""
    default: bool = False


def code_version(text: str) -> artifact.Address:
    """A codeset version whose commit may be abbreviated to 7 hex digits. Raises InvalidError."""
    address = artifact.Address.parse(text)
    if address.kind != "code" or not _COMMIT.fullmatch(address.version):
        raise errors.InvalidError(
            f"{text!r} is not a codeset version; write code://PROJECT/CODESET/COMMIT, at least 7 hex digits of the commit"
        )
    return address


def given(project: str, inputs: Iterable[str], trigger: object = None) -> frozenset[str]:
    """The addresses among the values of a run's inputs, and that of the artifact that started it."""
    started = [trigger] if isinstance(trigger, str) and trigger else []
    return frozenset([*started, *filter(None, (_address(project, value) for value in inputs))])


def made(project: str, outputs: Iterable[str]) -> set[str]:
    """The addresses of artifacts among outputs. No run makes code, and an anonymous artifact is passed between steps only."""
    found = {address for value in outputs if (address := _address(project, value))}
    return {
        address for address in found if not address.startswith("code://") and not transfers.is_anonymous(artifact.Address.parse(address))
    }


def next_runs(takers: Iterable[Taker], addresses: Collection[str], known: Collection[str]) -> list[Taker]:
    """Those of the runs that took one of the `addresses`, each once, without the `known` ones."""
    found = {taker.name: taker for taker in takers if taker.name not in known and not taker.given.isdisjoint(addresses)}
    return list(found.values())


def inputs(project: str, recorded: Mapping[str, str], planned: Mapping[str, str]) -> list[Value]:
    """The inputs of a run: those that it was given, then the defaults of its plan. Empty ones are left out."""
    own = [Value(name, value, _address(project, value)) for name, value in recorded.items() if value]
    defaults = [
        Value(name, value, _address(project, value), default=True) for name, value in planned.items() if value and name not in recorded
    ]
    return [*own, *defaults]


def outputs(project: str, written: Mapping[str, str], artifacts: Iterable[str]) -> list[Value]:
    """The outputs of a run, then the artifacts that it made beside them, each under the name of its kind."""
    own = [Value(name, value, _address(project, value)) for name, value in written.items() if value]
    named = {item.address for item in own}
    return [*own, *(Value(address.partition(":")[0], address, address) for address in sorted(artifacts) if address not in named)]


def _address(project: str, value: str) -> str:
    address = artifact.named_in(project, value) or artifact.model_of(project, value)
    return str(address) if address else ""
