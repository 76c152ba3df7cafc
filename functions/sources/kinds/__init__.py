"""The kinds of items: how each is made equal to its declaration, removed, and recognised as changed by hand.

All happens inside the transaction of a sync. The modules of the package have the functions of `Kind`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import sqlmodel

from functions.sources.deps import Deps
from functions.sources.kinds import assignments, extensions, projects, workflows
from functions.sources.kinds.put import Put
from fuseml.domain import events
from fuseml.domain.sources import files


class Kind(Protocol):
    """The operations with the items of a kind."""

    def fingerprints(self, session: sqlmodel.Session, names: Collection[str], /) -> Mapping[str, str]:
        """For each of the items that exist, a digest without secrets and without what changes of itself; with few queries."""

    def put(self, deps: Deps, session: sqlmodel.Session, item: Any, /) -> Put:
        """Make the item equal to its declaration. Raises InvalidError, NotFoundError, ConflictError."""

    def remove(self, deps: Deps, session: sqlmodel.Session, name: str, /) -> Sequence[events.Payload]:
        """Delete an item that exists. Raises ConflictError while it is needed."""


KINDS: Mapping[files.Kind, Kind] = {"project": projects, "extension": extensions, "workflow": workflows, "assignment": assignments}
