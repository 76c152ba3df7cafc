"""The journal: the engine's state on disk, one folder a run, readable after any crash.

    <root>/<run id>/plan.json           the plan; holds no secret
                    secrets             sealed, mode 0600, removed when the run has finished
                    run.json            RunRecord
                    announced           exists when all events of the finished run have been published
                    checkouts/<project>/<codeset>@<commit>[@<step>]/
                    steps/<step>/step.json, log (or dropped, when it is archived), script, and the files of `process`: lock, pid, exit
                                credentials/             secrets that the running step reads as files (`credentials`)
                                results/, work/          the only folders here that the step may write to, beside its checkouts

    <root>/.tmp/<step>                  the folder for temporary files of a running step; a short path, because sockets need one
    <root>/.trash/                      removed folders, until a thread has deleted them (`trash`)

A rename creates the folder of a run as a whole. Each record is one small file, replaced atomically. The record of a finish is on
stable storage before its event is published. A power failure can lose the start of a step; that step then counts as vanished and never
runs twice.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fuseml.domain import errors, plans, runs
from fuseml.domain.documents import document
from fuseml.engines import step_files
from fuseml.engines.local import credentials
from fuseml.engines.local.trash import Trash

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_LARGEST = 64 << 20
"""Bytes of a record or plan at most: a step could put any file in its place."""
_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.EINTR})
"""Failures of the machine, which say nothing about a file."""


def is_name(text: str) -> bool:
    """Whether `text` is a valid name of a file or folder here. Such a name cannot escape its parent folder."""
    return _NAME.fullmatch(text) is not None


class Ending(document.Model):
    """The reason why a run starts no further steps. `reason` is Tekton's reason; with `halt`, running steps are stopped, too."""

    reason: str
    message: str
    halt: bool = False


class AttemptRecord(document.Model):
    """One attempt of a step. Times are Unix seconds. `launched` is written before the process can exist; `runtime` is the container program.

    It holds its `devices` (resource -> ids) from its start to its end.
    """

    started: float
    finished: float | None = None
    cause: str | None = None
    launched: bool = False
    runtime: str | None = None
    devices: dict[str, tuple[str, ...]] = {}


class Wait(document.Model):
    """The wait of a queued step for devices: its cause, and its start in Unix seconds."""

    since: float
    cause: str


class StepRecord(document.Model):
    """The state of a step. `reason` is Tekton's reason for a finish or a skip; `retry_at` is the time of the next attempt in Unix seconds."""

    state: runs.State = "queued"
    attempts: tuple[AttemptRecord, ...] = ()
    retry_at: float | None = None
    wait: Wait | None = None
    finished: float | None = None
    reason: str = ""
    cause: str | None = None
    outputs: dict[str, str] = {}


class RunRecord(document.Model):
    """The state of a run. It starts with its first step; with an `ending` it only waits for running steps.

    `traceparent` (W3C) is the trace context of the submission.
    """

    state: runs.State = "queued"
    created: float
    started: float | None = None
    finished: float | None = None
    ending: Ending | None = None
    outputs: dict[str, str] = {}
    traceparent: str = ""


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        return self.path.is_dir()

    @property
    def is_whole(self) -> bool:
        """Whether the files exist without which the run cannot continue."""
        return all((self.path / name).exists() for name in ("plan.json", "run.json"))

    def read_plan(self) -> plans.Plan:
        """The plan. Raises PermanentError when it cannot be read, for example when a newer release wrote it."""
        try:
            return plans.Plan.model_validate_json(step_files.read(self.path, "plan.json", limit=_LARGEST))
        except (OSError, ValueError) as error:
            raise _unreadable(f"the plan in {self.path}", error) from error

    def record(self) -> RunRecord:
        """The run's record. Raises PermanentError when it cannot be read."""
        try:
            return RunRecord.model_validate_json(step_files.read(self.path, "run.json", limit=_LARGEST))
        except (OSError, ValueError) as error:
            raise _unreadable(f"the record in {self.path}", error) from error

    def save(self, record: RunRecord) -> None:
        """Write the run's record, durably when it ends the run."""
        _replace(self.path / "run.json", record.model_dump_json().encode(), durable=record.ending is not None)

    def step(self, name: str) -> StepRecord:
        """The step's record; a step that was never touched is queued. Raises PermanentError when it cannot be read."""
        try:
            return StepRecord.model_validate_json(step_files.read(self.path, "steps", name, "step.json", limit=_LARGEST))
        except FileNotFoundError:
            return StepRecord()
        except (OSError, ValueError) as error:
            raise _unreadable(f"the record in {self.step_path(name)}", error) from error

    def save_step(self, name: str, record: StepRecord) -> None:
        """Write the step's record, durably when it ends a step that ran; a skip follows from the other records."""
        folder = self.step_path(name)
        # Without `parents`: the folder of a run that was removed must not come back.
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        _replace(folder / "step.json", record.model_dump_json().encode(), durable=record.state in runs.FINISHED and bool(record.attempts))

    @property
    def begun(self) -> list[str]:
        """The names of the steps that have a folder, because they were begun. Raises OSError."""
        folder = self.path / "steps"
        return [path.name for path in folder.iterdir() if path.is_dir()] if folder.exists() else []

    def step_path(self, name: str) -> Path:
        return self.path / "steps" / name

    def inputs(self, name: str) -> Path:
        """The folder of the artifacts that the step reads."""
        return self.step_path(name) / "inputs"

    def input_path(self, name: str, artifact: str) -> Path:
        """The contents of one of them."""
        return self.inputs(name) / artifact

    def credentials(self, name: str) -> Path:
        """The folder of the secrets that the step gets as files."""
        return self.step_path(name) / "credentials"

    def directory(self, step: plans.StepPlan) -> Path:
        """The folder in which the step runs."""
        first = next(iter(step.checkouts), None)
        return self.checkout_path(first) / first.folder if first else self.step_path(step.name) / "work"

    def root(self, step: plans.StepPlan) -> Path:
        """The folder below which the step writes, and which it cannot replace: `directory` may be within it."""
        return self.checkout_path(step.checkouts[0]) if step.checkouts else self.step_path(step.name) / "work"

    def log(self, name: str) -> Path:
        return self.step_path(name) / "log"

    def log_dropped(self, name: str) -> bool:
        return (self.step_path(name) / "dropped").exists()

    def drop_log(self, name: str) -> None:
        """Remove the log of a finished step. Its mark comes first, so that a removed log is never taken for an empty one."""
        with contextlib.suppress(FileNotFoundError):
            (self.step_path(name) / "dropped").touch()
            self.log(name).unlink()

    def checkout_path(self, checkout: plans.Checkout) -> Path:
        """The checkout of the codeset, shared by all steps of this run that use this commit, or the step's own."""
        own = f"@{checkout.own}" if checkout.own else ""
        return self.path / "checkouts" / checkout.project / f"{checkout.codeset}@{checkout.commit}{own}"

    def temporary(self, step: str) -> Path:
        """The folder for temporary files of the step: paths of sockets have 107 bytes at most."""
        return self.path.parent / ".tmp" / hashlib.sha256(f"{self.path.name}/{step}".encode()).hexdigest()[:10]

    def secrets(self, unseal: Callable[[bytes], bytes]) -> Mapping[str, str]:
        """The secrets by ref; empty after the finish. Raises PermanentError when they cannot be read."""
        try:
            sealed = step_files.read(self.path, "secrets", limit=_LARGEST)
        except FileNotFoundError:
            return {}
        values: dict[str, str] = json.loads(unseal(sealed))
        return values

    def clean(self, trash: Trash) -> None:
        """Remove the secrets, then the checkouts, of a finished run."""
        (self.path / "secrets").unlink(missing_ok=True)
        for step in self.begun:
            # Those of a server that was killed.
            credentials.remove(self.credentials(step))
        trash.discard(self.path / "checkouts")

    @property
    def published(self) -> bool:
        return (self.path / "announced").exists()

    def mark_published(self) -> None:
        """Record that all events of this run have been published. Does nothing for a run that was forgotten meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "announced").touch()


class Journal:
    """The folder of all runs."""

    def __init__(self, root: Path, trash: Trash) -> None:
        self.root = root
        self._trash = trash

    def folder(self, run_id: str) -> RunFolder | None:
        """The folder of a run; None for an unknown run."""
        folder = RunFolder(self.root / run_id)
        return folder if is_name(run_id) and folder.exists else None

    def folders(self) -> Iterator[RunFolder]:
        """The folders of all runs, oldest first. Removes partial folders of an earlier process."""
        for path in self.root.glob(".*.partial"):
            if not path.match(f".*.{os.getpid()}.*.partial"):
                self._trash.discard(path)
        paths = [path for path in self.root.iterdir() if path.is_dir() and is_name(path.name)]
        for path in sorted(paths, key=lambda path: (path / "plan.json").stat().st_mtime if (path / "plan.json").exists() else 0.0):
            yield RunFolder(path)

    def create(self, plan: plans.Plan, sealed: bytes | None, record: RunRecord) -> RunFolder | None:
        """Write a new run atomically. Returns None when the run exists already."""
        target = self.root / plan.id
        if target.exists():
            return None
        partial = self._partial(plan.id)
        # A step may write a secret to a file, so other users must not read the folder of a run.
        partial.mkdir(mode=0o700, parents=True)
        try:
            _write(partial / "plan.json", plan.model_dump_json().encode())
            _write(partial / "run.json", record.model_dump_json().encode())
            if sealed is not None:
                _write(partial / "secrets", sealed)
            partial.rename(target)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            if target.exists():
                return None
            raise
        _sync_folder(self.root)
        return RunFolder(target)

    def remove(self, folder: RunFolder) -> None:
        """Remove the folder of a run; it disappears at once. Raises TemporaryError when it cannot be removed now."""
        if not self._trash.discard(folder.path):
            raise errors.TemporaryError(f"the folder {folder.path} could not be removed; the log has the cause")

    def _partial(self, run_id: str) -> Path:
        return self.root / f".{run_id}.{os.getpid()}.{os.urandom(4).hex()}.partial"


def _unreadable(subject: str, error: Exception) -> errors.FusemlError:
    kind = errors.TemporaryError if isinstance(error, OSError) and error.errno in _PASSING else errors.PermanentError
    return kind(f"{subject} cannot be read: {error}")


def _write(path: Path, content: bytes, *, durable: bool = True) -> None:
    with step_files.create(path) as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _replace(path: Path, content: bytes, *, durable: bool) -> None:
    # The name is random, because a step could put a FIFO or a link in the place of a fixed one.
    partial = path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")
    try:
        _write(partial, content, durable=durable)
        try:
            partial.replace(path)
        except IsADirectoryError:
            # A folder that the step put there must not stop the record; it goes with the run.
            path.rename(partial.with_suffix(".replaced"))
            partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
