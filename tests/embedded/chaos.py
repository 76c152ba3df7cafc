"""Many pushes to a server with injected faults that is killed repeatedly; in the end each effect happened once.

    python -m tests.embedded.chaos [--pushes 500] [--kills 20] [--seed N]

Webhooks come one to four times, shuffled, and every tenth is lost, as are the engine's events; the broker repeats and reorders what it
delivers (`fuseml up --chaos`). Some events are poison, so that expected dead letters are distinct from others.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import random
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fuseml.domain import events
from fuseml.runtime import clock
from fuseml.store import database, outbox
from tests import commands, documents
from tests.embedded import servers
from tests.waiting import wait_until

CODESETS = [f"code{number}" for number in range(5)]
WORKFLOWS = [f"nothing{number}" for number in range(3)]
# Both consumers of pushes refuse each of them.
POISON, CONSUMERS = 3, 4


@dataclass
class Storm:
    """One storm. `pushes` commits, each pushed on its own, are spread over the codesets; the server dies `kills` times."""

    folder: pathlib.Path
    seed: int
    pushes: int
    kills: int
    limit: float
    commits: dict[str, list[str]] = field(default_factory=dict)
    pushed: int = 0

    def __post_init__(self) -> None:
        self.begun = time.monotonic()
        trouble = f"duplicate=0.75,reorder=0.5,delay=0.1,drop=0.1,seed={self.seed}"
        self.server = servers.Server(self.folder / "home", "--mlflow", "none", "--chaos", trouble)
        self.chance = random.Random(self.seed)

    def prove(self) -> None:
        """Raises AssertionError with the violation."""
        self.say(
            f"seed {self.seed}: {self.pushes} pushes to {len(CODESETS)} codesets with {len(WORKFLOWS)} assignments, {self.kills} kills"
        )
        self.server.start()
        try:
            remotes = self.prepare()
            pushers = [threading.Thread(target=self.push, args=(codeset, remotes[codeset])) for codeset in CODESETS]
            for pusher in pushers:
                pusher.start()
            self.kill_often()
            for pusher in pushers:
                pusher.join()
            self.say(f"{self.pushed} pushes done")
            assert self.pushed == self.pushes
            left = self.limit - (time.monotonic() - self.begun)
            wait_until(self.at_rest, "everything to come to its end", patience=left, interval=0.1)
            self.say("at rest")
        except AssertionError:
            self.say(f"after a failure: {self.facts()}")
            raise
        finally:
            self.server.stop()
        self.check()
        self.say("exactly one run for each commit and assignment, all finished, ledger complete")

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:6.1f} s  {text}", flush=True)

    def prepare(self) -> dict[str, str]:
        """Register codesets and workflows, and make all commits before the first push. Returns the remote of each codeset."""
        remotes = {}
        for workflow in WORKFLOWS:
            self.server.post("/workflows", raw=documents.one_step(workflow, code=documents.COMMIT).encode())
        for number, codeset in enumerate(CODESETS):
            registered = self.server.post(f"/codesets?project=p&name={codeset}")
            for workflow in WORKFLOWS:
                self.server.post(f"/workflows/assignments?name={workflow}&codesetProject=p&codesetName={codeset}")
            scheme, rest = registered["codeset"]["url"].split("://")
            remotes[codeset] = f"{scheme}://{registered['username']}:{registered['password']}@{rest}"
            self.commits[codeset] = self.history(self.folder / codeset, len(range(number, self.pushes, len(CODESETS))))
        store = database.Database(f"sqlite:///{self.server.home / 'fuseml.db'}")
        poison = [
            events.Event(events.CodesetPushed.TYPE, "/poison", f"poison-{number}", None, clock.now(), {"project": number})
            for number in range(POISON)
        ]
        with store.write() as session:
            outbox.add(session, poison, clock.now())
        store.close()
        return remotes

    def history(self, folder: pathlib.Path, length: int) -> list[str]:
        """A repository with a line of `length` commits; returns them, oldest first. One seed makes one repository."""
        folder.mkdir()
        servers.git(folder, "init", "--quiet", "--initial-branch=main")
        stream = [
            f"commit refs/heads/main\ncommitter Ada <ada@example.com> {1_790_000_000 + number} +0000\n"
            f"data <<END\n{folder.name} {number} {self.seed}\nEND\n"
            f"M 644 inline train.py\ndata <<END\nprint({number})\nEND\n"
            for number in range(length)
        ]
        commands.run(["git", "fast-import", "--quiet"], cwd=folder, environment=servers.GIT_ENVIRONMENT, text="\n".join(stream))
        return servers.git(folder, "rev-list", "--reverse", "main").split()

    def push(self, codeset: str, remote: str) -> None:
        for commit in self.commits[codeset]:
            # A failed push is repeated until it succeeds; the server may have accepted an earlier attempt.
            while time.monotonic() - self.begun < self.limit:
                command = ["git", "push", "--quiet", remote, f"{commit}:refs/heads/main"]
                with contextlib.suppress(subprocess.TimeoutExpired):
                    done = subprocess.run(
                        command, cwd=self.folder / codeset, env=servers.GIT_ENVIRONMENT, capture_output=True, timeout=30, check=False
                    )
                    if done.returncode == 0:
                        self.pushed += 1
                        break
                time.sleep(0.2)

    def kill_often(self) -> None:
        """At random times, two thirds during the pushes, the rest during the work that follows."""
        moments = sorted(self.chance.randrange(1, self.pushes) for _ in range(self.kills - self.kills // 3))
        for count, moment in enumerate([*moments, *[self.pushes] * (self.kills // 3)]):
            while self.pushed < moment and time.monotonic() - self.begun < self.limit:
                time.sleep(0.02)
            time.sleep(self.chance.uniform(0, 2.0))
            self.server.kill()
            self.server.start()
            if count % 5 == 4:
                self.say(f"killed {count + 1} times, {self.pushed} pushes, {self.facts()}")

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.server.home / "fuseml.db", timeout=30)
        try:
            yield connection
        finally:
            connection.close()

    def facts(self) -> dict[str, object]:
        """The progress, for messages."""
        with self.reading() as connection:
            return {
                "runs": dict(connection.execute("SELECT state, count(*) FROM run GROUP BY state")),
                "deliveries": dict(connection.execute("SELECT state, count(*) FROM delivery GROUP BY state")),
                "outbox": connection.execute("SELECT count(*) FROM outbox").fetchone()[0],
            }

    def at_rest(self) -> bool:
        facts = self.facts()
        runs: dict[str, int] = facts["runs"]  # type: ignore[assignment]
        expected = self.pushes * len(WORKFLOWS)
        finished = sum(runs.get(state, 0) for state in ("succeeded", "failed", "cancelled"))
        deliveries: dict[str, int] = facts["deliveries"]  # type: ignore[assignment]
        return finished >= expected and finished == sum(runs.values()) and not deliveries.get("pending") and facts["outbox"] == 0

    def check(self) -> None:
        """Each effect happened once, and the ledger has every event."""
        commits = {(codeset, commit) for codeset, made in self.commits.items() for commit in made}
        with self.reading() as connection:
            runs = connection.execute(
                'SELECT name, codeset, "commit", workflow, state, json_extract("trigger", \'$.assignment\') FROM run'
            ).fetchall()
            causes = connection.execute("SELECT name, state, cause FROM run WHERE state != 'succeeded'").fetchall()
            ledger = connection.execute("SELECT type, subject, event FROM ledger_event").fetchall()
            dead = Counter(
                connection.execute(
                    "SELECT e.source, d.trigger FROM delivery d JOIN ledger_event e ON e.sequence = d.event_sequence WHERE d.state = 'dead'"
                ).fetchall()
            )
        expected = {(codeset, commit, workflow) for codeset, commit in commits for workflow in WORKFLOWS}
        made = Counter((codeset, commit, workflow) for _, codeset, commit, workflow, _, _ in runs)
        assert set(made) == expected, f"{len(expected - set(made))} runs are missing, {len(set(made) - expected)} have no cause"
        assert set(made.values()) == {1}, f"{sum(count > 1 for count in made.values())} were run more than once"
        assert len({assignment for *_, assignment in runs}) == len(CODESETS) * len(WORKFLOWS)
        assert causes == [], f"runs that did not succeed: {causes}"
        executed = {path.name for path in (self.server.home / "runs").iterdir() if not path.name.startswith(".")}
        assert len(executed) == len(runs), "the engine did not execute each run once"
        counts = Counter(type for type, _, _ in ledger)
        assert counts[events.CodesetPushed.TYPE] == len(commits) + POISON
        for type in (events.RunCreated.TYPE, events.RunFinished.TYPE):
            subjects = Counter(subject for found, subject, _ in ledger if found == type)
            assert subjects == Counter(name for name, *_ in runs), f"{type} is not in the ledger once for each run"
        assert counts[events.ArtifactRecorded.TYPE] == len(commits)
        assert counts[events.TICK] == 0
        assert sum(dead.values()) == POISON * CONSUMERS, f"dead letters: {dead}"
        assert {source for source, _ in dead} == {"/poison"}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pushes", type=int, default=500)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options.add_argument("--limit", type=float, default=1800, help="seconds after which it has failed")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Storm(pathlib.Path(folder), given.seed, given.pushes, given.kills, given.limit).prove()


if __name__ == "__main__":
    main()
