"""The record of installations: a Secret for each tool in the cluster, written before and after each step."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fuseml.domain import errors
from fuseml.domain.installation import objects
from fuseml.installing.programs import Object, Programs

State = Literal["installing", "installed", "removing"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The installation of a tool: its description, the digests of finished steps and of the running one, and the namespaces made for it.

    `begun` holds the keys of all steps that were begun at any time: their objects and releases are the tool's.
    """

    tool: str
    text: str
    state: State = "installing"
    done: tuple[str, ...] = ()
    running: str = ""
    namespaces: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    domain: str = ""
    shipped: bool = True

    def begins(self, digest: str, key: str) -> Entry:
        """The entry while a step runs."""
        return replace(self, running=digest, begun=(*(each for each in self.begun if each != key), key))

    def withdraws(self, key: str) -> Entry:
        """The entry without a step whose objects are those of others."""
        return replace(self, running="", begun=tuple(each for each in self.begun if each != key))

    def ends(self, digest: str) -> Entry:
        """The entry after a step."""
        return replace(self, running="", done=(*(each for each in self.done if each != digest), digest))


class Ledger:
    """Reads and writes the entries."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    def entries(self) -> dict[str, Entry]:
        """The entries by tool."""
        found = self._programs.list("secrets", f"--namespace={objects.LEDGER}", f"--selector={objects.TOOL}")
        return {entry.tool: entry for entry in map(_entry, found)}

    def write(self, entry: Entry) -> None:
        """Store an entry."""
        progress = {"done": entry.done, "running": entry.running, "namespaces": entry.namespaces, "begun": entry.begun}
        data = {
            "description.yaml": entry.text,
            "state": entry.state,
            "domain": entry.domain,
            "shipped": "true" if entry.shipped else "false",
            "progress": json.dumps(progress),
        }
        self._programs.apply([objects.ledger(entry.tool, data)])

    def prepare(self) -> None:
        """Create the namespace of the entries."""
        namespace = objects.namespace(objects.LEDGER, "fuseml")
        self._programs.apply([namespace])

    def remove(self, tool: str) -> None:
        """Forget a tool."""
        self._programs.kubectl("delete", "secret", tool, f"--namespace={objects.LEDGER}", "--ignore-not-found")


def _entry(item: Object) -> Entry:
    name = item["metadata"]["name"]
    try:
        data = {key: base64.b64decode(value).decode() for key, value in (item.get("data") or {}).items()}
        progress = json.loads(data.get("progress") or "{}")
        state: State = {"installed": "installed", "removing": "removing"}.get(data.get("state", ""), "installing")  # type: ignore[assignment]
        return Entry(
            tool=name,
            text=data.get("description.yaml", ""),
            state=state,
            done=_texts(progress.get("done")),
            running=str(progress.get("running") or ""),
            namespaces=_texts(progress.get("namespaces")),
            begun=_texts(progress.get("begun")),
            domain=data.get("domain", ""),
            shipped=data.get("shipped") != "false",
        )
    except (ValueError, AttributeError):
        raise errors.PermanentError(
            f"the record of the installation of {name} is damaged: Secret {name} in the namespace {objects.LEDGER}; delete it and install "
            "the tool again"
        ) from None


def _texts(value: object) -> tuple[str, ...]:
    items: Sequence[object] = value if isinstance(value, list) else []
    return tuple(str(item) for item in items)
