"""The result of making an item equal to its declaration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fuseml.domain import events


@dataclass(frozen=True, slots=True)
class Put:
    """The effect, the fields that have changed, and the events to publish."""

    effect: Literal["created", "updated", "unchanged"]
    fields: Sequence[str] = ()
    payloads: Sequence[events.Payload] = ()


def digest(facts: object) -> str:
    """A digest of plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
