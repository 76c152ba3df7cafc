"""Runs: start, repeat, list, follow, approve, cancel, read logs."""

from __future__ import annotations

import builtins
import codecs
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Unpack, cast

from fuseml.client import lineage_shapes, shapes, transport
from fuseml.domain import errors, runs

INTERVAL = 0.5
"""Seconds between two requests of a follower."""

APPEARS = 15.0
"""Seconds until a request has become a run."""

# Followers retry for so many seconds while the server is unreachable; a restart takes less.
_RETRY = 30.0


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A part of a step's log. The next part begins at `offset` (bytes) unless the log is `complete`."""

    data: bytes
    offset: int
    complete: bool


def is_finished(run: shapes.Run | shapes.StepRun) -> bool:
    """Whether the state is final."""
    return run.get("state", "") in runs.FINISHED


class Runs:
    """`/runs`."""

    def __init__(self, http: transport.Transport) -> None:
        self._http = http

    def list(self, *, limit: int | None = None, **filters: Unpack[shapes.RunFilters]) -> Iterator[shapes.Run]:
        """Runs that match all filters, newest first, at most `limit`."""
        return cast(Iterator[shapes.Run], self._http.pages("/runs", cast(transport.Query, filters), limit))

    def active(self, **filters: Unpack[shapes.RunFilters]) -> builtins.list[shapes.Run]:
        """The unfinished runs that match all filters, by name."""
        found: dict[str, shapes.Run] = {}
        for state in ("queued", "waiting", "running"):  # a run that moves on meanwhile is met again
            found |= {run["name"]: run for run in self.list(**cast(shapes.RunFilters, {**filters, "state": state}))}
        return [run for run in found.values() if not is_finished(run)]

    def get(self, name: str) -> shapes.Run:
        """The run of that name. Raises NotFoundError."""
        return cast(shapes.Run, self._http.get_object(transport.address("runs", name)))

    def start(self, workflow: str, request: shapes.RunRequest) -> str:
        """Request a run of the workflow; the request's id. Raises NotFoundError, ConflictError, InvalidError when it cannot run."""
        return self._request("/runs", {"workflow": workflow, **request})

    def requested(
        self,
        request: str,
        *,
        patience: float = APPEARS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> shapes.Run:
        """The run of a request, as soon as it exists. Raises TemporaryError if it does not after `patience` seconds."""
        end = clock() + patience
        while True:
            for run in self.list(request=request, limit=1):
                return run
            if clock() > end:
                raise errors.TemporaryError(
                    "the request was accepted, but its run does not exist yet; see `fuseml run list` later", details={"request": request}
                )
            sleep(INTERVAL)

    def rerun(
        self,
        name: str,
        *,
        locked: bool = False,
        inputs: Mapping[str, str] | None = None,
        until: str | None = None,
        only: str | None = None,
        no_cache: bool = False,
    ) -> str:
        """Request the repetition of a run: of its exact plan if `locked`, else of a new plan; the request's id.

        `inputs` replace those of the run by name, or add to them.
        """
        request = {"locked": locked, "inputs": dict(inputs or {}), "until": until, "only": only, "no_cache": no_cache}
        return self._request(transport.address("runs", name, "rerun"), request)

    def resume(self, name: str, *, commit: str | None = None, images: Mapping[str, str] | None = None) -> str:
        """Request the continuation of a failed or cancelled run; the request's id. Raises ConflictError for any other run."""
        return self._request(transport.address("runs", name, "resume"), {"commit": commit, "images": dict(images or {})})

    def _request(self, path: str, fields: Mapping[str, object]) -> str:
        document = {key: value for key, value in fields.items() if value}
        return str(self._http.change("POST", path, document=document).get("request", ""))

    def cancel(self, name: str, *, reason: str = "") -> shapes.Run:
        """Stop the run and its steps; `reason` becomes the run's cause. Raises ConflictError when the run has finished."""
        query = {"reason": reason} if reason else None
        return cast(shapes.Run, self._http.change("POST", transport.address("runs", name, "cancel"), query=query))

    def approve(self, name: str, *, step: str | None = None, comment: str = "") -> shapes.Run:
        """Approve a waiting step; `step` is needed when several wait. Raises ConflictError when none waits."""
        return self._decide(name, "approve", step, comment)

    def reject(self, name: str, *, step: str | None = None, comment: str = "") -> shapes.Run:
        """Reject a waiting step, which fails the run; otherwise as `approve`."""
        return self._decide(name, "reject", step, comment)

    def _decide(self, name: str, decision: str, step: str | None, comment: str) -> shapes.Run:
        document = {key: value for key, value in {"step": step, "comment": comment}.items() if value}
        return cast(shapes.Run, self._http.change("POST", transport.address("runs", name, decision), document=document))

    def diff(self, a: str, b: str, *, everything: bool = False) -> lineage_shapes.RunDiff:
        """The differences of two runs; with `everything` the equal facts, too."""
        query = {"all": "true"} if everything else None
        return cast(lineage_shapes.RunDiff, self._http.get_object(transport.address("runs", a, "diff", b), query))

    def results(
        self, *, project: str = "", codeset: str = "", code: str = "", recursive: bool = False, limit: int | None = None
    ) -> Iterator[lineage_shapes.RunResult]:
        """The runs that took a code version, by default the newest one of each codeset of the project, or of `codeset`; with `recursive`
        those that took what these made, too. Oldest first.

        `code` is `code://PROJECT/CODESET/COMMIT`, at least 7 digits of the commit. Raises NotFoundError, ConflictError for an ambiguous one.
        """
        query = {"project": project, "codeset": codeset, "code": code, "recursive": "true" if recursive else None}
        return cast(Iterator[lineage_shapes.RunResult], self._http.pages("/pipelines/results", query, limit))

    def log(self, name: str, step: str, offset: int = 0) -> LogChunk:
        """The step's log from `offset` (bytes) on. Raises NotFoundError for an unknown step."""
        path = transport.address("runs", name, "logs", step)
        response = self._http.send("GET", path, query={"offset": offset}, headers={"Accept": "text/plain"})
        next_offset = response.headers.get("fuseml-log-offset", "")
        return LogChunk(
            response.body,
            int(next_offset) if next_offset.isdigit() else offset + len(response.body),
            response.headers.get("fuseml-log-complete", "true") == "true",
        )

    def watch(
        self,
        name: str,
        *,
        interval: float = INTERVAL,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[shapes.Run]:
        """The run at each interval until it has finished; the last item is final. Retries while the server is unreachable."""
        last_seen = clock()
        while True:
            try:
                run = self.get(name)
            except errors.TemporaryError:
                if clock() - last_seen > _RETRY:
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
        """The runs, and all runs that they cause, at each interval until all have finished; each run follows its cause.

        Retries while the server is unreachable.
        """
        pending = dict.fromkeys(names)
        runs_by_name: dict[str, shapes.Run] = {}
        last_seen = clock()
        while pending:
            try:
                for name in list(pending):
                    # The run is read before its effects: a settled run causes no more runs.
                    runs_by_name[name] = self.get(name)
                    caused = [run for run in self.list(caused_by=name) if run["name"] not in runs_by_name]
                    runs_by_name |= {run["name"]: run for run in reversed(caused)}
                    pending |= {run["name"]: None for run in caused}
                    if is_finished(runs_by_name[name]) and runs_by_name[name].get("settled", True):
                        del pending[name]
            except errors.TemporaryError:
                if clock() - last_seen > _RETRY:
                    raise
            else:
                last_seen = clock()
                yield list(runs_by_name.values())
            if pending:
                sleep(interval)

    def text(
        self, name: str, step: str, *, follow: bool = False, interval: float = INTERVAL, sleep: Callable[[float], None] = time.sleep
    ) -> Iterator[str]:
        """A step's log in pieces: up to now, or with `follow` until the step has ended."""
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
