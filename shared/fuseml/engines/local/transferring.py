"""The artifacts of a step: fetched before it starts, collected after it has succeeded, each by a process of its own.

The processes have the reach of a step, and alone the variables of the stores. They end with the server: what a crash interrupted begins
anew, and an unfinished upload is invisible.
"""

from __future__ import annotations

import sys
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from fuseml.domain import errors, plans
from fuseml.domain.plans import transfers
from fuseml.engines import step_files
from fuseml.engines.local import causes, journal, launch, process
from fuseml.engines.local.host import Host
from fuseml.processes import program

_FILE = "file://"
_AWAY = 75
"""The exit code of a program whose store is away (`fuseml.artifactstores.program`)."""


class Transferring:
    """Moves the artifacts of one attempt, on its thread. `running` is the present process, for other threads to stop.

    `execution` is the id of the plan, `outputs` are those of the steps before. `stopped` is the message of a request to end, empty without
    one.
    """

    def __init__(
        self,
        host: Host,
        folder: journal.RunFolder,
        step: plans.StepPlan,
        *,
        project: str,
        execution: str,
        outputs: Mapping[str, Mapping[str, str]],
        stopped: Callable[[], str],
    ) -> None:
        self._host, self._folder, self._step, self._stopped = host, folder, step, stopped
        self._project, self._execution, self._outputs = project, execution, outputs
        self.running: process.Process | None = None

    def fetch(self) -> None:
        """Put the contents where the step reads them. Raises PermanentError, TemporaryError, OSError."""
        targets = {fetch.name: self._folder.input_path(self._step.name, fetch.name) for fetch in transfers.contents(self._step)}
        inputs = self._folder.inputs(self._step.name)
        self._host.trash.discard(inputs)
        variables = transfers.fetching(self._step, self._project, {name: str(path) for name, path in targets.items()})
        if variables:
            inputs.mkdir(mode=0o700, parents=True)
            stores = [fetch.store for fetch in transfers.contents(self._step)]
            read = [*_folders(stores), *_repositories(stores, self._project)]
            self._run(transfers.FETCH_MODULE, variables, read=read, write=[inputs])

    def conversion(self, secrets: Mapping[str, str]) -> launch.Launch | None:
        """The step itself if it copies an artifact to another store; None for any other step."""
        variables = transfers.converting(self._step, self._project, self._execution)
        if not variables:
            return None
        values = {name: plans.evaluate(value, self._outputs, lambda part: secrets[part.ref]) for name, value in variables.items()}
        holders = [fetch.store for fetch in self._step.fetches]
        read = [*_folders(holders), *_repositories(holders, self._project)]
        stores = _folders(collect.store for collect in self._step.collects)
        return launch.conversion(self._step, values, self._folder, self._host.environment, read, stores)

    def collect(self, folder: Path) -> None:
        """Store the artifacts that the step has written in `folder`, its first checkout or its own, and write their addresses as outputs. Raises as `fetch`."""
        variables = transfers.collecting(self._step, self._project, self._execution, str(folder))
        if variables:
            results = self._folder.step_path(self._step.name) / "results"
            variables["FUSEML_ENV_RESULTS"] = plans.text(str(results))
            stores = [collect.store for collect in self._step.collects]
            self._run(transfers.COLLECT_MODULE, variables, read=[folder], write=[results, *_folders(stores)])

    def _run(self, module: str, variables: Mapping[str, plans.Value], *, read: Iterable[Path], write: list[Path]) -> None:
        self._expect_wanted()
        own = self._folder.step_path(self._step.name) / "transfer"
        self._host.trash.discard(own)
        home = own / "home"
        home.mkdir(mode=0o700, parents=True)
        secrets = self._folder.secrets(self._host.unseal)
        values = {name: plans.evaluate(value, self._outputs, lambda part: secrets[part.ref]) for name, value in variables.items()}
        request = self._request(module, own, home, values, [*secrets.values(), *self._host.masked], read, [home, *write])
        log = self._folder.log(self._step.name)
        with step_files.open_to_append(log) as output:
            running = self.running = process.start(self._host.launcher, request, output)
        if self._stopped():
            running.kill()
        end = running.wait()
        self.running = None
        self._host.trash.discard(own)
        self._expect_wanted()
        if end is None or end[0] != 0:
            self._fail(end, log)

    def _fail(self, end: process.End | None, log: Path) -> None:
        if end is None:
            raise errors.TemporaryError("the supervisor of the transfer of its artifacts was killed (out of memory?)")
        if problem := causes.exceeded(end[1], self._host.limits):
            raise errors.PermanentError(problem)
        kind = errors.TemporaryError if end[0] == _AWAY else errors.PermanentError
        raise kind(causes.last_line(log) or f"the transfer of its artifacts exited with code {end[0]}")

    def _expect_wanted(self) -> None:
        if message := self._stopped():
            raise errors.TemporaryError(message)

    def _request(
        self,
        module: str,
        folder: Path,
        home: Path,
        variables: Mapping[str, str],
        secrets: list[str],
        read: Iterable[Path],
        write: list[Path],
    ) -> program.Request:
        host = self._host
        return program.Request(
            folder=str(folder),
            command=[sys.executable, "-P", "-m", module],
            environment={**host.environment, **variables, "PYTHONUNBUFFERED": "1", "HOME": str(home), "TMPDIR": str(home)},
            directory=str(home),
            data_limit=0,
            secrets=secrets,
            log_limit=host.limits.log,
            disk_limit=host.limits.disk,
            measured=[str(path) for path in write if path.is_relative_to(self._folder.path)],
            grants=host.confinement.of_step(read, write),
            abi=host.confinement.abi,
            tethered=True,
        )


def _folders(stores: Iterable[plans.Store]) -> list[Path]:
    """The folders of this machine among the stores: steps have no grant for them."""
    return [_folder(store.url) for store in stores if store.url.startswith(_FILE)]


def _repositories(stores: Iterable[plans.Store], project: str) -> list[Path]:
    """The repositories of the project on this machine that stores of pushed data read."""
    texts = {plans.evaluate(item.value, {}, lambda _: "") for store in stores for item in store.variables if item.name == transfers.GIT_URL}
    return [_folder(text) / project for text in sorted(texts) if text.startswith(_FILE)]


def _folder(url: str) -> Path:
    return Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
