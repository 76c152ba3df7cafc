"""The checkout of a codeset for a step: its files by the git host, then the submodules of other hosts.

Those are fetched by a process with the reach of a step and without a secret. Their addresses come from a commit and are not trusted, so
neither the server nor an account of it follows them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from fuseml.domain import errors, plans
from fuseml.engines import step_files
from fuseml.engines.local import causes, journal, process
from fuseml.engines.local.host import Host
from fuseml.processes import program

_LIST = "submodules.json"


class CheckingOut:
    """Makes the checkouts of one attempt, on its thread. `lock` guards the checkouts of the run, which its steps share.

    `running` is the process that fetches submodules, for other threads to stop. `stopped` is the message of a request to end, empty without
    one.
    """

    def __init__(self, host: Host, folder: journal.RunFolder, log: Path, lock: threading.Lock, stopped: Callable[[], str]) -> None:
        self._host, self._folder, self._log, self._lock, self._stopped = host, folder, log, lock, stopped
        self.running: process.Process | None = None

    def check_out(self, checkout: plans.Checkout) -> None:
        """Make the checkout, unless the run has it, and look for its folder. Raises PermanentError, TemporaryError, OSError."""
        target = self._folder.checkout_path(checkout)
        with self._lock:
            if not target.exists():
                self._make(checkout, target)
        if not (target / checkout.folder).is_dir():
            where = f"{checkout.project}/{checkout.codeset}"
            raise errors.PermanentError(f"codeset {where} has no folder {checkout.folder!r} at {checkout.commit[:12]}")

    def _make(self, checkout: plans.Checkout, target: Path) -> None:
        self._expect_wanted()
        partial = target.with_name(f".{target.name}.partial")
        self._host.trash.discard(partial)
        partial.mkdir(parents=True)
        try:
            foreign = self._host.checkout(checkout, partial)
        except Exception as error:
            # Git hosts and their libraries raise many types; the run distinguishes permanent and temporary failures only.
            kind = errors.PermanentError if isinstance(error, errors.PermanentError) else errors.TemporaryError
            raise kind(
                f"codeset {checkout.project}/{checkout.codeset} could not be checked out at {checkout.commit[:12]}: {error}"
            ) from error
        if foreign:
            self._fetch_submodules(partial, foreign, target.with_name(f".{target.name}.fetch"))
        partial.rename(target)

    def _fetch_submodules(self, checkout: Path, foreign: Sequence[plans.Submodule], folder: Path) -> None:
        """Run the process in the checkout; `folder` is for its own files. No file of the checkout decides what it fetches."""
        self._host.trash.discard(folder)
        home = folder / "home"
        home.mkdir(parents=True)
        (home / _LIST).write_text(json.dumps([dataclasses.asdict(submodule) for submodule in foreign]), encoding="utf-8")
        with step_files.open_to_append(self._log) as log:
            running = self.running = process.start(self._host.launcher, self._request(checkout, folder, home), log)
        if self._stopped():
            running.kill()
        end = running.wait()
        self.running = None
        self._host.trash.discard(folder)
        self._expect_wanted()
        if end is None or end[0] != 0:
            problem = causes.exceeded(end[1], self._host.limits) if end else ""
            kind = errors.PermanentError if problem else errors.TemporaryError
            raise kind(f"the submodules of the codeset could not be fetched: {problem or 'the log has the reason'}")

    def _expect_wanted(self) -> None:
        if message := self._stopped():
            raise errors.TemporaryError(message)

    def _request(self, checkout: Path, folder: Path, home: Path) -> program.Request:
        host = self._host
        return program.Request(
            folder=str(folder),
            # -P: the current folder is the codeset's; its files must not shadow modules.
            command=[sys.executable, "-P", "-m", "fuseml.steps.submodules", str(home / _LIST)],
            environment={**host.environment, "PYTHONUNBUFFERED": "1", "HOME": str(home), "TMPDIR": str(home)},
            directory=str(checkout),
            data_limit=0,
            secrets=list(host.masked),
            log_limit=host.limits.log,
            disk_limit=host.limits.disk,
            measured=[str(checkout)],
            grants=host.confinement.of_step([], [checkout, home]),
            abi=host.confinement.abi,
            # A checkout that a crash interrupted begins anew.
            tethered=True,
        )
