"""The shipped workload agent: a job is one command, which runs as a process on the agent's machine.

gunicorn --workers 1 --threads 16 'fuseml.agents.command:serve()' serves it. FUSEML_AGENT_TOKEN is its token, FUSEML_AGENT_FOLDER a folder of
its own, and FUSEML_AGENT_COMMAND the command of every job, split as by a shell. The command has the contract of a step: parameters are
FUSEML_<NAME>, and each file that it writes to $FUSEML_ENV_RESULTS is an output.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import flask

from fuseml.agents import jobs, service, workload
from fuseml.domain import errors
from fuseml.engines import masking, step_files
from fuseml.engines.local import process
from fuseml.processes import program
from fuseml.processes.launcher import Launcher

KEPT = 7 * 86400.0
"""Seconds for which an ended job is kept."""

GRACE = 10.0
"""Seconds from a cancellation to the kill of a process that ignores it; the next question about the state kills it."""

_LARGEST_OUTPUT = 1 << 20
_MOST_OUTPUTS = 100
_LOG = 256 << 20
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR")


class CommandWorkload:
    """See `Workload`. Jobs survive the agent: a later one with the same folder continues to follow them.

    A job is a folder: `job.json`, `begun` once its process was started, the files of the process (`engines.local.process`), `log`, `cancelled`,
    `work` and `results`.
    """

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._jobs = folder / "jobs"
        self._jobs.mkdir(parents=True, exist_ok=True)
        self._environment = {name: environment[name] for name in _INHERITED if name in environment}
        self._launcher = Launcher(masking.__file__)
        self._guard = threading.Lock()

    def start(self, id: str, job: jobs.Job) -> None:
        """See `Workload.start`."""
        folder, text = self._jobs / id, json.dumps(asdict(job), sort_keys=True).encode()
        with self._guard:
            self._remove_old()
            if not (folder / "job.json").exists():
                for name in ("work", "results"):
                    (folder / name).mkdir(parents=True, exist_ok=True)
                partial = folder / ".job.json"
                partial.write_bytes(text)
                partial.replace(folder / "job.json")
            elif (folder / "job.json").read_bytes() != text:
                raise errors.ConflictError(f"the id {id!r} has another job; a new job needs a new id")
            self._ensure_begun(folder)

    def status(self, id: str) -> jobs.Status:
        """See `Workload.status`."""
        folder = self._folder(id)
        with self._guard:
            self._ensure_begun(folder)
        started, cancelled = _milliseconds(folder / "begun"), _milliseconds(folder / "cancelled")
        if process.held(folder):
            if cancelled and cancelled < (time.time() - GRACE) * 1000:
                process.adopt(folder).kill()
            return jobs.Status("running", started=started)
        # Read after the supervisor's end.
        end, finished = process.end_of(folder), _milliseconds(folder / "exit") or cancelled or started
        if cancelled and (end is None or end[0] != 0):
            return jobs.Status("cancelled", "", started, finished)
        if end is None:
            return jobs.Status("failed", "the process of the job was killed, or its machine restarted", started, finished)
        code, reason = end
        if code == 0:
            return jobs.Status("succeeded", "", started, finished)
        return jobs.Status("failed", f"the command ended with code {code}{f' ({reason})' if reason else ''}", started, finished)

    def logs(self, id: str, offset: int) -> bytes:
        """See `Workload.logs`."""
        try:
            with step_files.open_to_read(self._folder(id), "log") as file:
                file.seek(offset)
                return file.read(jobs.LOG)
        except FileNotFoundError:
            return b""

    def cancel(self, id: str) -> None:
        """See `Workload.cancel`."""
        folder = self._folder(id)
        with self._guard:
            if process.held(folder) or not (folder / "begun").exists():
                # The first time counts: the process is killed some seconds after it.
                if not (folder / "cancelled").exists():
                    (folder / "cancelled").touch()
                process.adopt(folder).stop()

    def outputs(self, id: str) -> Mapping[str, str]:
        """See `Workload.outputs`. Raises PermanentError for more or larger files than outputs may be."""
        folder = self._folder(id)
        if (state := self.status(id).state) != "succeeded":
            raise errors.ConflictError(f"the job {id!r} has no outputs: it is {state}")
        found = sorted(path.name for path in (folder / "results").iterdir() if not path.name.startswith("."))
        if len(found) > _MOST_OUTPUTS:
            raise errors.PermanentError(f"the job {id!r} has more than {_MOST_OUTPUTS} outputs")
        try:
            texts = {name: step_files.read(folder / "results", name, limit=_LARGEST_OUTPUT + 1) for name in found}
        except step_files.WrongKindError:
            raise errors.PermanentError(f"an output of the job {id!r} is no regular file") from None
        if any(len(text) > _LARGEST_OUTPUT for text in texts.values()):
            raise errors.PermanentError(f"an output of the job {id!r} has more than {_LARGEST_OUTPUT} bytes; write an address instead")
        return {name: text.decode(errors="replace") for name, text in texts.items()}

    def _ensure_begun(self, folder: Path) -> None:
        """Start the process unless one was started, or the job cancelled: a former agent may have died in between."""
        if (folder / "begun").exists() or (folder / "cancelled").exists():
            return
        if process.has_begun(folder):
            (folder / "begun").touch()
            return
        job = jobs.Job(**json.loads((folder / "job.json").read_bytes()))
        parameters = {f"FUSEML_{name.upper().replace('-', '_')}": value for name, value in job.parameters.items()}
        variables = {"FUSEML_ENV_RESULTS": str(folder / "results"), "FUSEML_ENV_PROJECT": job.project, "FUSEML_ENV_RUN": job.run}
        request: program.Request = {
            "folder": str(folder),
            "command": self._command,
            "environment": {**self._environment, **parameters, **variables},
            "directory": str(folder / "work"),
            "data_limit": 0,
            "secrets": [],
            "log_limit": _LOG,
            "disk_limit": 0,
            "measured": [],
            "grants": [],
            "abi": 0,
            "tethered": False,
        }
        process.clear(folder)
        try:
            with (folder / "log").open("ab") as log:
                process.start(self._launcher, request, log)
        except (OSError, ValueError) as error:
            raise errors.TemporaryError(f"the process of the job cannot be started: {error}") from None
        (folder / "begun").touch()

    def _folder(self, id: str) -> Path:
        folder = self._jobs / id
        if not (folder / "job.json").exists():
            raise errors.NotFoundError(f"the agent has no job {id!r}")
        return folder

    def _remove_old(self) -> None:
        for folder in self._jobs.iterdir():
            # A job whose supervisor was killed has no exit.
            ended = _milliseconds(folder / "exit") or _milliseconds(folder / "begun")
            if ended and ended < (time.time() - KEPT) * 1000 and not process.held(folder):
                # The record first: without it the job is unknown.
                (folder / "job.json").unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)


def _milliseconds(path: Path) -> int:
    """The time of the last write; 0 without the file."""
    try:
        return int(path.stat().st_mtime * 1000)
    except FileNotFoundError:
        return 0


def create_app(environment: Mapping[str, str]) -> flask.Flask:
    """The agent with the settings of its module. Raises InvalidError for a missing one."""
    command = shlex.split(service.setting(environment, "FUSEML_AGENT_COMMAND"))
    folder = Path(service.setting(environment, "FUSEML_AGENT_FOLDER")).absolute()
    return workload.create_app(CommandWorkload(command, folder, environment), service.setting(environment, service.TOKEN))


def serve() -> flask.Flask:
    """The agent with the settings of this process."""
    return create_app(os.environ)
