"""The record of a version in a bucket: the bytes of its files, and the facts that its producer stated. Written once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from fuseml.artifactstores.port import About
from fuseml.domain import errors, finite
from fuseml.domain.artifact import Address

LARGEST = 1 << 20
"""Bytes of a record."""

_TEXTS = ("format", "framework", "framework_version", "producer")
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """`size` is the bytes of all files."""

    size: int
    about: About


def encode(record: Record) -> bytes:
    """The stored form. Raises InvalidError for facts that are too long, and for metrics that are no finite numbers."""
    about = record.about
    if any(len(getattr(about, name)) > _LONGEST for name in _TEXTS):
        raise errors.InvalidError(f"the {', '.join(_TEXTS)} of an artifact have at most {_LONGEST} characters each")
    infinite = [name for name, value in about.metrics.items() if finite.number(value) is None]
    if infinite:
        raise errors.InvalidError(f"the metric {infinite[0]!r} of an artifact is no finite number; leave it out")
    text = json.dumps({"size": record.size, "about": asdict(about)}, sort_keys=True).encode()
    if len(text) > LARGEST:
        raise errors.InvalidError(f"the facts about an artifact take {len(text)} bytes, more than {LARGEST}; put large ones into its files")
    return text


def decode(text: bytes, address: Address) -> Record:
    """Raises PermanentError for text that is no record."""
    try:
        document = json.loads(text)
        about = document["about"]
        texts = {name: str(about[name]) for name in _TEXTS}
        metrics = {str(name): float(value) for name, value in about["metrics"].items()}
        return Record(
            int(document["size"]), About(**texts, metrics=metrics, params=_texts(about["params"]), metadata=_texts(about["metadata"]))
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, RecursionError) as error:
        raise errors.PermanentError(f"the record of {address} is damaged in the store ({type(error).__name__}); restore it") from error


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()}
