"""Runs: start, repeat, list, follow, read their logs, cancel."""

from __future__ import annotations

import builtins
import codecs
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Unpack, cast

from fuseml.client import shapes, transport
from fuseml.domain import errors, runs

INTERVAL = 0.5
"""Seconds between two looks at something that is being followed."""

# A server that is being restarted is back within this many seconds; a follower waits that long before it gives up.
_PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of a step's log from the asked offset on; ask again at `offset` until `complete`."""

    data: bytes
    offset: int
    complete: bool


def is_finished(run: shapes.Run | shapes.StepRun) -> bool:
    """Whether the state is one that never changes again."""
    return run.get("state", "") in runs.FINISHED


class Runs:
    """`/runs`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, *, limit: int | None = None, **filters: Unpack[shapes.RunFilters]) -> Iterator[shapes.Run]:
        """Runs that match all filters, newest first, at most `limit`."""
        return cast(Iterator[shapes.Run], self._http.pages("/runs", cast(transport.Query, filters), limit))

    def get(self, name: str) -> shapes.Run:
        """Raises NotFoundError."""
        return cast(shapes.Run, self._http.get_object(transport.address("runs", name)))

    def start(self, workflow: str, wish: shapes.RunRequest) -> str:
        """Ask for a run of the workflow; the id of the request. NotFoundError, ConflictError, InvalidError when it cannot run."""
        return self._ask("/runs", {"workflow": workflow, **wish})

    def rerun(self, name: str, *, locked: bool = False, until: str | None = None, only: str | None = None, no_cache: bool = False) -> str:
        """Ask for a run to be repeated, its plan exactly if `locked`, else resolved anew; the id of the request."""
        wish = {"locked": locked, "until": until, "only": only, "no_cache": no_cache}
        return self._ask(transport.address("runs", name, "rerun"), wish)

    def resume(self, name: str, *, commit: str | None = None, images: Mapping[str, str] | None = None) -> str:
        """Ask for a failed run to go on; the id of the request. ConflictError when it is active or has succeeded."""
        return self._ask(transport.address("runs", name, "resume"), {"commit": commit, "images": dict(images or {})})

    def _ask(self, path: str, document: Mapping[str, object]) -> str:
        given = {key: value for key, value in document.items() if value}
        return str(self._http.change("POST", path, document=given).get("request", ""))

    def cancel(self, name: str, *, reason: str = "") -> shapes.Run:
        """Stop the run's steps; `reason` becomes the run's cause. ConflictError when it has finished already."""
        query = {"reason": reason} if reason else None
        return cast(shapes.Run, self._http.change("POST", transport.address("runs", name, "cancel"), query=query))

    def approve(self, name: str, *, step: str | None = None, comment: str = "") -> shapes.Run:
        """Let a step run that waits; `step` is needed if several wait. ConflictError when none does."""
        return self._answer(name, "approve", step, comment)

    def reject(self, name: str, *, step: str | None = None, comment: str = "") -> shapes.Run:
        """Keep a step from running that waits, which fails the run; otherwise as `approve`."""
        return self._answer(name, "reject", step, comment)

    def _answer(self, name: str, word: str, step: str | None, comment: str) -> shapes.Run:
        document = {key: value for key, value in {"step": step, "comment": comment}.items() if value}
        return cast(shapes.Run, self._http.change("POST", transport.address("runs", name, word), document=document))

    def log(self, name: str, step: str, offset: int = 0) -> LogChunk:
        """What the step has written since `offset` (bytes). NotFoundError for an unknown step."""
        path = transport.address("runs", name, "logs", step)
        answer = self._http.send("GET", path, query={"offset": offset}, headers={"Accept": "text/plain"})
        following = answer.headers.get("fuseml-log-offset", "")
        return LogChunk(
            answer.body,
            int(following) if following.isdigit() else offset + len(answer.body),
            answer.headers.get("fuseml-log-complete", "true") == "true",
        )

    def watch(
        self,
        name: str,
        *,
        interval: float = INTERVAL,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[shapes.Run]:
        """The run again and again until it has finished; the last one yielded is final. A short absence of the server is waited out."""
        last_seen = clock()
        while True:
            try:
                run = self.get(name)
            except errors.TemporaryError:
                if clock() - last_seen > _PATIENCE:
                    raise
            else:
                last_seen = clock()
                yield run
                if is_finished(run):
                    return
            sleep(interval)

    def follow(
        self,
        names: Iterable[str],
        *,
        interval: float = INTERVAL,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[builtins.list[shapes.Run]]:
        """The runs, and all that they lead to, again and again until everything has finished; each behind the one that caused it.

        A short absence of the server is waited out.
        """
        open_ = dict.fromkeys(names)
        known: dict[str, shapes.Run] = {}
        last_seen = clock()
        while open_:
            try:
                for name in list(open_):
                    # First the run, then what it caused: of a settled run there will be no more.
                    known[name] = self.get(name)
                    caused = [run for run in self.list(caused_by=name) if run["name"] not in known]
                    known |= {run["name"]: run for run in reversed(caused)}
                    open_ |= {run["name"]: None for run in caused}
                    if is_finished(known[name]) and known[name].get("settled", True):
                        del open_[name]
            except errors.TemporaryError:
                if clock() - last_seen > _PATIENCE:
                    raise
            else:
                last_seen = clock()
                yield list(known.values())
            if open_:
                sleep(interval)

    def text(
        self, name: str, step: str, *, follow: bool = False, interval: float = INTERVAL, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[str]:
        """A step's log in pieces: what is there now or, with `follow`, also what comes until the step has ended."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        offset = 0
        while True:
            chunk = self.log(name, step, offset)
            last = chunk.complete or (not follow and not chunk.data)
            text = decoder.decode(chunk.data, final=last)
            if text:
                yield text
            if last:
                return
            if not chunk.data:
                sleep(interval)
            offset = chunk.offset
