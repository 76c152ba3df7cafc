"""The descriptor of an artifact: its immutable facts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic

from fuseml.domain import artifact, errors, finite
from fuseml.domain.artifacts import conditions
from fuseml.domain.documents import document

_DIGEST = re.compile(r"[A-Za-z0-9]{2,20}:[A-Za-z0-9+/=_-]{7,200}")
FRAMEWORK = "[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
"""The pattern of a framework's name, also in filters."""
_MOST_METADATA = 16 << 10


def _address(text: str) -> str:
    address = artifact.Address.parse(text)
    if not text.isprintable():
        raise errors.InvalidError(f"{text[: artifact.LONGEST]!r} holds a control character")
    return str(address)


# No database stores a NUL, and no line of a table another control character.
_TEXT = r"[^\x00-\x1f\x7f]"
Word = Annotated[str, pydantic.Field(min_length=1, max_length=100, pattern=rf"^[^\x00-\x20\x7f](?:{_TEXT}*[^\x00-\x20\x7f])?$")]
Address = Annotated[str, pydantic.AfterValidator(_address)]
Metrics = Annotated[
    dict[Annotated[str, pydantic.Field(pattern=f"^{conditions.METRIC}$")], Annotated[float, pydantic.Field(allow_inf_nan=False)]],
    pydantic.Field(max_length=200),
]


class Framework(document.Model):
    """The library that made the contents, and its version."""

    name: Annotated[str, pydantic.Field(max_length=100, pattern=f"^{FRAMEWORK}$")]
    version: document.Text = pydantic.Field("", max_length=100, pattern=f"^{_TEXT}*$")


class Descriptor(document.Model):
    """An artifact to register. `digest` is `algorithm:value`, `size` is in bytes, `location` a URI of the contents, `type` their media type.

    `run` and `step` produced it from `sources`, the addresses of other artifacts. An external artifact is only a reference: nothing of
    FuseML made it, stores it, or starts because of it.
    """

    address: Address
    type: Word | None = None
    format: Word | None = None
    framework: Framework | None = None
    digest: str | None = None
    size: Annotated[int, pydantic.Field(ge=0, le=(1 << 63) - 1)] | None = None
    location: Annotated[str, pydantic.Field(min_length=1, max_length=2000, pattern=r"^[^\s\x00-\x1f\x7f]+$")] | None = None
    external: bool = False
    run: Word | None = None
    step: Word | None = None
    sources: list[Address] = pydantic.Field([], max_length=100)
    metrics: Metrics = {}
    metadata: dict[str, Any] = {}

    @pydantic.field_validator("address")
    @classmethod
    def _registrable(cls, text: str) -> str:
        return str(artifact.check_new(artifact.Address.parse(text)))

    @pydantic.field_validator("digest")
    @classmethod
    def _is_digest(cls, text: str | None) -> str | None:
        if text is not None and digest_of(text) is None:
            raise ValueError("must be algorithm:value, such as sha256:9f86d0...")
        return text

    @pydantic.field_validator("metadata")
    @classmethod
    def _is_small(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        if len(json.dumps(metadata)) > _MOST_METADATA:
            raise ValueError(f"must take at most {_MOST_METADATA} bytes as JSON; larger facts belong in the contents")
        return metadata

    @pydantic.model_validator(mode="after")
    def _is_consistent(self) -> Descriptor:
        if self.external and not self.location:
            raise ValueError("an external artifact needs its location, the URI of the contents")
        if self.external and (self.run or self.step or self.sources):
            raise ValueError("an external artifact was made by no run: leave out run, step and sources")
        if self.step and not self.run:
            raise ValueError("a step belongs to a run: name the run")
        if self.address in self.sources:
            raise ValueError("an artifact is no source of itself")
        return self


def digest_of(text: object) -> str | None:
    """The text if it is a digest of any algorithm; None for anything else."""
    return text if isinstance(text, str) and _DIGEST.fullmatch(text) else None


def metrics_of(value: object) -> dict[str, float]:
    """The metrics among reported values: finite numbers under legal names. Other entries are no metrics."""
    if not isinstance(value, Mapping):
        return {}
    named = {name: finite.number(item) for name, item in value.items() if isinstance(name, str) and re.fullmatch(conditions.METRIC, name)}
    return {name: number for name, number in named.items() if number is not None}


def check_same(address: str, stored: Mapping[str, object], given: Mapping[str, object]) -> None:
    """Raises ConflictError with both values where a registered fact differs from the stored one. Facts that one side lacks do not differ."""
    different = {
        name: {"stored": stored[name], "given": value}
        for name, value in given.items()
        if value not in (None, {}, "") and stored.get(name) not in (None, {}, "") and stored[name] != value
    }
    if different:
        name = "digest" if "digest" in different else next(iter(different))
        raise errors.ConflictError(
            f"{address} is registered with the {name} {different[name]['stored']}, and artifacts are immutable: "
            f"{different[name]['given']} needs another version",
            details={"address": address, "different": different},
        )
