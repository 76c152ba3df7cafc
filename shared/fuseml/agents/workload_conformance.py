"""The checks of a workload agent. Their jobs have the parameters that the caller gives, so that the tool can run them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fuseml.agents import jobs, workload
from fuseml.agents.conformance import expect, fresh, refused
from fuseml.domain import errors
from fuseml.runtime import agent_calls

_PAUSE = 0.2


class WorkloadChecks:
    """The checks of the workload agent at `url`; a job may take `patience` seconds."""

    def __init__(self, url: str, token: str, parameters: Mapping[str, str], patience: float) -> None:
        self._url = url
        self._agent = agent_calls.Agent(url, token, "fuseml-workload")
        self._job = {"parameters": dict(parameters), "project": "fuseml-conformance", "run": "check-1"}
        self._patience = patience

    def all(self) -> Mapping[str, Callable[[], None]]:
        """Rule -> check."""
        return {
            "declares its protocol": self._declares,
            "refuses a caller without the token": self._refuses_strangers,
            "answers not_found for an unknown job": self._unknown,
            "refuses an invalid id and invalid parameters": self._invalid,
            "runs a job to its end": self._runs,
            "starts a job once, however often it is asked": self._once,
            "refuses another job under the same id": self._conflict,
            "keeps outputs and log of an ended job": self._keeps,
            "gives no outputs before the end": self._no_outputs,
            "cancels a job, and again without effect": self._cancels,
            "leaves an ended job unchanged by a cancellation": self._cancels_late,
        }

    def _declares(self) -> None:
        declared = self._agent.call("GET", workload.ROOT).get("protocol")
        expect(declared == workload.PROTOCOL, f"it declares {declared!r} instead of {workload.PROTOCOL!r}")

    def _refuses_strangers(self) -> None:
        for token in ("", "another-token-0123456789"):
            stranger = agent_calls.Agent(self._url, token, "fuseml-workload")
            path = self._path(fresh("check"))
            for call in (partial(stranger.call, "PUT", path, self._job), partial(stranger.call, "GET", path)):
                refused(call, errors.PermanentError, "a request without the token")

    def _unknown(self) -> None:
        path = self._path(fresh("unknown"))
        for call in (
            partial(self._agent.call, "GET", path),
            partial(self._agent.text, f"{path}/logs"),
            partial(self._agent.call, "GET", f"{path}/outputs"),
            partial(self._agent.call, "POST", f"{path}/cancel"),
        ):
            refused(call, errors.NotFoundError, "a request for an unknown job")

    def _invalid(self) -> None:
        refused(partial(self._agent.call, "PUT", self._path("-a"), self._job), errors.InvalidError, "the id '-a'")
        body = {**self._job, "parameters": {"a b": "1"}}
        refused(partial(self._agent.call, "PUT", self._path(fresh("check")), body), errors.InvalidError, "a parameter named 'a b'")

    def _runs(self) -> None:
        status = self._end(self._start())
        expect(
            status["state"] == "succeeded", f"the job has {status['state']}: {status.get('cause')}; give its parameters with --parameter"
        )
        expect(0 < status["started"] <= status["finished"], f"it started at {status['started']} and ended at {status['finished']}")

    def _once(self) -> None:
        id = self._start()
        self._start(id)
        end = self._end(id)
        expect(self._start(id, status=True) == end, "a repeated start changes the state of an ended job")

    def _conflict(self) -> None:
        id = self._start()
        other = {**self._job, "parameters": {**self._job["parameters"], "other": "1"}}  # type: ignore[dict-item]
        refused(partial(self._agent.call, "PUT", self._path(id), other), errors.ConflictError, "another job under the same id")

    def _keeps(self) -> None:
        id = self._start()
        expect(self._end(id)["state"] == "succeeded", "the job does not succeed")
        first, second = (self._agent.call("GET", f"{self._path(id)}/outputs") for _ in range(2))
        expect(first == second and isinstance(first.get("outputs"), dict), "the outputs change, or are no mapping")
        log = self._agent.text(f"{self._path(id)}/logs")
        expect(
            self._agent.text(f"{self._path(id)}/logs?offset={len(log) // 2}") == log[len(log) // 2 :],
            "a later part of the log differs from the whole",
        )
        expect(self._agent.text(f"{self._path(id)}/logs?offset={1 << 40}") == b"", "the log continues behind its end")

    def _no_outputs(self) -> None:
        id = self._start()
        try:
            self._agent.call("GET", f"{self._path(id)}/outputs")
        except errors.ConflictError:
            return
        expect(self._status(id)["state"] == "succeeded", "a job that has not succeeded has outputs")

    def _cancels(self) -> None:
        id = self._start()
        for _ in range(2):
            self._agent.call("POST", f"{self._path(id)}/cancel")
        state = self._end(id)["state"]
        expect(state in ("cancelled", "succeeded"), f"a cancelled job has {state}")
        self._agent.call("POST", f"{self._path(id)}/cancel")
        expect(self._status(id)["state"] == state, "a late cancellation changes the end of a job")

    def _cancels_late(self) -> None:
        id = self._start()
        end = self._end(id)
        self._agent.call("POST", f"{self._path(id)}/cancel")
        expect(self._status(id) == end, "a cancellation changes an ended job")

    def _start(self, id: str = "", *, status: bool = False) -> Any:
        id = id or fresh("check")
        answer = self._agent.call("PUT", self._path(id), self._job)
        return answer if status else id

    def _status(self, id: str) -> dict[str, Any]:
        status = self._agent.call("GET", self._path(id))
        expect(status.get("state") in ("queued", "running", *jobs.ENDS), f"the state of a job is {status.get('state')!r}")
        expect(all(isinstance(status.get(key), int) for key in ("started", "finished")), "the times of a job are no numbers")
        return status

    def _end(self, id: str) -> dict[str, Any]:
        deadline = time.monotonic() + self._patience
        while (status := self._status(id))["state"] not in jobs.ENDS:
            expect(time.monotonic() < deadline, f"a job does not end within {self._patience:g} seconds; allow more with --patience")
            time.sleep(_PAUSE)
        return status

    def _path(self, id: str) -> str:
        return f"{workload.ROOT}/jobs/{id}"
