"""A source repository with random edits, reconciled by processes that kill themselves at random statements and publications.

python -m tests.component.killed_sources FOLDER SEED EDITS: after each edit, processes handle its push or a tick, or sweep the outbox, until one
ends. After each death everything equals the files of one commit, and at the end those of the last one. Prints the number of edits and of deaths.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy

from fuseml.domain import events
from fuseml.runtime import clock, cloudevents
from fuseml.store import outbox
from tests import databases
from tests.component import dying
from tests.component.sourced import Sourced, record, workflow

_DEADLIEST = 120
"""Statements and publications of one process, at most, before which it may die."""

_DEATHS = 3
"""Deaths in the work on one edit."""

State = Mapping[str, Mapping[str, Any]]


class Files:
    """The files of a repository, and the state that they declare. An edit changes a few of them at random."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._records: dict[str, str] = {}
        self._workflows: dict[str, str] = {}
        self._assignments: set[str] = set()
        self._projects: dict[str, str] = {}
        self._folder = "a"

    def edit(self) -> None:
        """One to four changes."""
        for _ in range(self._chance.randint(1, 4)):
            self._chance.choice([self._change_record, self._change_workflow, self._assign, self._change_project, self._move])()

    def _change_record(self) -> None:
        self._put_or_drop(self._records, f"record-{self._chance.randint(1, 4)}", f"{self._chance.randint(1, 9)}.0")

    def _change_workflow(self) -> None:
        name = f"flow-{self._chance.randint(1, 3)}"
        self._put_or_drop(self._workflows, name, f"shell:{self._chance.randint(1, 9)}")
        if name not in self._workflows:
            self._assignments = {item for item in self._assignments if not item.startswith(f"{name} ")}

    def _assign(self) -> None:
        if self._workflows:
            name = self._chance.choice(sorted(self._workflows))
            self._assignments ^= {f"{name} {self._chance.choice(['code://demo/code', 'model://demo/*', 'code://demo/*'])}"}

    def _change_project(self) -> None:
        self._put_or_drop(self._projects, f"project-{self._chance.randint(1, 3)}", f"No. {self._chance.randint(1, 9)}")

    def _move(self) -> None:
        self._folder = self._chance.choice("abc")

    def _put_or_drop(self, items: dict[str, str], name: str, value: str) -> None:
        if name in items and self._chance.random() < 0.4:
            del items[name]
        else:
            items[name] = value

    @property
    def files(self) -> dict[str, str]:
        """Path -> text."""
        found = {f"fuseml/registry/{self._folder}/{name}.yaml": record(name, version) for name, version in self._records.items()}
        found |= {f"fuseml/workflows/{self._folder}-{name}.yaml": workflow(name, image) for name, image in self._workflows.items()}
        assigned = [json.dumps(dict(zip(("workflow", "pattern"), item.split(), strict=True))) for item in sorted(self._assignments)]
        projects = [json.dumps({"name": name, "description": text}) for name, text in self._projects.items()]
        return {**found, "fuseml/assignments/all.yaml": "\n---\n".join(assigned), "fuseml/projects/all.yaml": "\n---\n".join(projects)}

    @property
    def state(self) -> State:
        """As `Sourced.state`."""
        return {
            "project": dict(self._projects),
            "extension": {name: (version, "http://minio:9000") for name, version in self._records.items()},
            "workflow": dict(self._workflows),
            "assignment": dict.fromkeys(sorted(self._assignments), True),
        }


class Announcing(Sourced):
    """Published events are written to a file, which outlives the process. `point` is called before each."""

    point: Callable[[], None] | None = None

    def publish(self, event: events.Event) -> None:
        if self.point is not None:
            self.point()
        with (self.folder / "events").open("a") as file:
            file.write(json.dumps([event.type, event.id, event.data]) + "\n")
        super().publish(event)


def opened(folder: Path) -> Announcing:
    """The functions over the database in the folder."""
    return Announcing(databases.on_sqlite(folder / "fuseml.db"), folder)


def _work(system: Announcing, event: events.Event | None, death: int) -> int:
    """The exit code of a process that handles the event, or a tick without one, and the outbox; with `death` it dies at that point."""
    # No connection may be shared with the child.
    system.store.close()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        if death:
            system.point = dying.at(death)
            sqlalchemy.event.listen(system.store.engine, "before_cursor_execute", system.point)
            sqlalchemy.event.listen(system.store.engine, "commit", system.point)
        if event is None:
            system.tick()
        else:
            system.deliver(event)
        cloudevents.sweep(system.store, system, clock.ahead(1))
        code = 0
    finally:
        os._exit(code)


def _by_hand(system: Announcing, chance: random.Random, state: State) -> None:
    """A change by hand, which the next sync undoes."""
    if state["extension"] and chance.random() < 0.5:
        system.call("PUT", f"/extensions/{chance.choice(sorted(state['extension']))}", {"version": "0.0"})
    elif state["assignment"]:
        name, _, pattern = chance.choice(sorted(state["assignment"])).partition(" ")
        system.call("DELETE", f"/workflows/assignments/{name}?pattern={pattern}", status=204)


def _apply(system: Announcing, chance: random.Random, files: Files, push: events.Event, before: State) -> int:
    """Handle a push by processes that die. The push may be lost, late or repeated; a tick makes up for it. Returns the number of deaths."""
    deaths = 0
    for attempt in range(_DEATHS + 1):
        code = _work(system, push if chance.random() < 0.6 else None, chance.randint(1, _DEADLIEST) if attempt < _DEATHS else 0)
        assert code in (0, -signal.SIGKILL), code
        deaths += code != 0
        state = system.state()
        assert state in (before, files.state), (attempt, state)
    return deaths


def main() -> None:
    system, chance, edits = opened(Path(sys.argv[1])), random.Random(int(sys.argv[2])), int(sys.argv[3])
    system.furnish()
    files, deaths = Files(chance), 0
    system.commit(files.files)
    assert system.add()["state"] == "synced"
    for number in range(edits):
        if chance.random() < 0.3:
            _by_hand(system, chance, system.state())
        before = system.state()
        files.edit()
        if chance.random() < 0.2:
            broken = system.commit({**files.files, "fuseml/registry/broken.yaml": "id: [\n"})
            assert _work(system, system.pushed(broken), 0) == 0
            assert system.state() == before, "a wrong file changes nothing"
        commit = system.commit({**files.files, "number": str(number)})
        deaths += _apply(system, chance, files, system.pushed(commit), before)
        assert system.state() == files.state, number
        with system.store.read() as session:
            assert not outbox.pending(session, 0, 1)
        source = system.call("GET", "/sources/team")
        assert (source["state"], source["commit"], source["drifted"]) == ("synced", commit, 0), source
    print(edits, deaths)


if __name__ == "__main__":
    main()
