"""`housekeeper` and `runs` over one store, one engine and one folder of contents, for tests of archived logs."""

from __future__ import annotations

import pathlib
from typing import Any

from functions.housekeeper import deps as housekeeper_deps
from functions.runs import app as runs_app
from functions.runs import deps as runs_deps
from fuseml import engines
from fuseml.contents import filesystem
from fuseml.domain import errors, events
from fuseml.githosts.embedded import EmbeddedGitHost
from fuseml.runtime import auth, clock, secrets
from fuseml.store import database, paging, runs
from fuseml.store.tables import run_rows
from tests import event_keys
from tests.component import endpoint, triggering

TICK = events.Event(events.TICK, "/test", "tick", None, endpoint.NOON, {})
LINES = b"one\ntwo\nh\xc3\xa9llo\n"


class Engine(triggering.Engine):
    """An engine with the logs in `written`; one without a log has lost its pod."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[tuple[str, str], bytes] = {}
        self.complete, self.away = True, ""
        self.forgotten: list[str] = []
        self.dropped: list[tuple[str, str]] = []
        self.log_requests = 0

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> engines.LogChunk:
        self.log_requests += 1
        if self.away:
            raise errors.PermanentError(self.away)
        if (run_id, step) not in self.written:
            raise errors.NotFoundError("the pod is gone, and its log with it")
        whole = self.written[run_id, step]
        data = whole[offset : offset + limit]
        return engines.LogChunk(data, offset + len(data), self.complete and offset + len(data) == len(whole))

    def drop_log(self, run_id: str, step: str) -> None:
        self.dropped.append((run_id, step))
        self.written.pop((run_id, step), None)

    def forget(self, run_id: str) -> None:
        self.forgotten.append(run_id)
        for key in [key for key in self.written if key[0] == run_id]:
            del self.written[key]


class Installation:
    """The functions with contents in a folder; `options` override those of the housekeeper."""

    def __init__(self, store: database.Database, folder: pathlib.Path, engine: engines.Engine | None = None, **options: Any) -> None:
        self.store, self.folder = store, folder
        self.engine: Any = engine or Engine()
        self.kept = filesystem.FileContents(folder / "contents")
        self.published = endpoint.Publisher()
        self.options = {"contents": self.kept} | options
        tokens = auth.Tokens({}, anonymous=True)
        deps = runs_deps.Deps(
            store=store,
            publisher=self.published,
            engine=self.engine,
            tokens=tokens,
            public_url="http://fuseml",
            zone="",
            namespace="workloads",
            contents=self.options["contents"],
        )
        self.client = runs_app.create_app(deps).test_client()

    def housekeeper(self, **options: Any) -> housekeeper_deps.Deps:
        return housekeeper_deps.Deps(
            store=self.store,
            publisher=self.published,
            signer=event_keys.SIGNER,
            git=EmbeddedGitHost(self.folder, "http://git"),
            engine=self.engine,
            keyring=secrets.Keyring([secrets.new_key()]),
            **(self.options | options),
        )

    def run(self, name: str, state: str = "succeeded", finished: str | None = None, run_id: str = "", **steps: str) -> str:
        """Add a run whose steps are in these states. Returns its id. The stand-in engine gets a log for each step."""
        run_id = run_id or f"id-{name}"
        moment = finished or clock.now()
        row = run_rows.Run(
            id=run_id,
            name=name,
            sequence=0,
            workflow="w",
            revision=1,
            project="p",
            trigger={},
            inputs={},
            state="queued",
            created=moment,
            submitted=moment,
        )
        with self.store.write() as session:
            runs.add(session, row, list(steps))
            row.state, row.started = state, moment
            row.finished = moment if state in ("succeeded", "failed", "cancelled") else None
            for step in runs.steps(session, [run_id]):
                step.state = steps[step.name]
                if step.state != "skipped":
                    step.started = moment
                    if isinstance(self.engine, Engine):
                        self.engine.written[run_id, step.name] = f"{step.name}\n".encode() + LINES
                if step.state in ("succeeded", "failed", "cancelled"):
                    step.finished = moment
        return run_id

    def finished(self, name: str, days_ago: float = 0) -> None:
        """Mark the run and its steps as succeeded `days_ago`."""
        moment = clock.ago(days_ago * 86400)
        with self.store.write() as session:
            row = runs.get(session, name)
            for part in (row, *runs.steps(session, [row.id])):
                part.state, part.finished = "succeeded", moment

    def archived(self) -> dict[str, str | None]:
        with self.store.read() as session:
            rows = runs.page(session, paging.Page(100)).rows
            return {f"{row.name}/{step.name}": step.archived for row in rows for step in runs.steps(session, [row.id])}

    def log(self, run: str, step: str, offset: int = 0) -> tuple[bytes, int, bool]:
        answer = self.client.get(f"/runs/{run}/logs/{step}?offset={offset}")
        assert answer.status_code == 200, answer.text
        return answer.data, int(answer.headers["Fuseml-Log-Offset"]), answer.headers["Fuseml-Log-Complete"] == "true"
