"""`fuseml.Client`: FuseML for Python programs and notebooks, with typed objects as results.

It finds its server as the `fuseml` command does. `api` is the client of the whole HTTP API, with documents as results.
"""

from __future__ import annotations

import builtins
import collections
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from fuseml.client import api, artifact_contents, models, objects, pushes, settings, shapes
from fuseml.domain import artifact, errors

if TYPE_CHECKING:
    import pandas


class Client:
    """A client of one server: what the `fuseml` command does, for Python programs and notebooks."""

    def __init__(self, url: str = "", token: str = "", *, project: str = "", home: str | Path = "", timeout: float | None = None) -> None:
        """Without arguments, the server, token and project are those of the `fuseml` command: of the environment, the configuration file, and
        a local server. `home` is that of another local server; `timeout` is in seconds, for each request. Sends no request.

        Raises InvalidError for an invalid URL, and NotFoundError if no server runs with that home.
        """
        known = settings.values(os.environ)
        chosen = {"url": url, "token": token, "project": project, "home": str(home), "timeout": timeout}
        given = settings.ClientSettings(
            **{**known, **{name: value for name, value in chosen.items() if value}},  # type: ignore[arg-type]  # the types of `chosen`
            url_is_chosen=bool(url),
            token_is_chosen=bool(token),
            home_is_chosen=bool(home),
        )
        self._settings = given
        self.api = api.Client(given.server_url(), given.access_token(), given.timeout)
        """The whole HTTP API: an attribute for each part, with documents as results."""
        self.runs = Runs(self.api, given)
        self.artifacts = Artifacts(self.api, given)
        self.events = Events(self.api)
        self.models = models.Models(self.api)

    def __repr__(self) -> str:
        return f"Client({self.api.url!r})"

    @property
    def url(self) -> str:
        """The server's URL without a trailing slash."""
        return self.api.url

    def push(self, path: str | Path, *, name: str = "", project: str = "", message: str = "") -> objects.Push:
        """Push the files of a folder, or of a public repository at a URL, as a new codeset version; equal files push nothing.

        The codeset has the folder's name by default. Registers the codeset and its project if they do not exist. Needs the `git` program.
        """
        location = str(path)
        named = name or Path(location).resolve().name.removesuffix(".git")
        owner = project or self._settings.current_project() or self.api.projects.only()
        result = pushes.push(self.api, self._settings, location, project=owner, name=named, message=message)
        return objects.Push(owner, named, result.commit, result.changed)

    def plan(
        self, workflow: str, *, codeset: str = "", project: str = "", commit: str = "", inputs: Mapping[str, str] | None = None
    ) -> objects.Plan:
        """The plan of a run, which is not started. Raises as `runs.start`."""
        return objects.Plan.of(self.api.workflows.plan(workflow, _request(self._settings, codeset, project, commit, inputs)))


class Runs:
    """Runs: executions of workflows."""

    def __init__(self, api: api.Client, given: settings.ClientSettings) -> None:
        self._api, self._settings = api, given

    def list(self, *, limit: int | None = None, **filters: Unpack[shapes.RunFilters]) -> Iterator[objects.Run]:
        """Runs that match all filters, newest first."""
        return map(objects.Run.of, self._api.runs.list(limit=limit, **filters))

    def get(self, name: str) -> objects.Run:
        """The run of that name. Raises NotFoundError."""
        return objects.Run.of(self._api.runs.get(name))

    def start(
        self, workflow: str, *, codeset: str = "", project: str = "", commit: str = "", inputs: Mapping[str, str] | None = None
    ) -> objects.Run:
        """Start a run of the workflow, by default on the newest version of the codeset; the run, as soon as it exists.

        Raises NotFoundError, ConflictError and InvalidError if it cannot run, TemporaryError if it does not exist after 15 seconds.
        """
        request = self._api.runs.start(workflow, _request(self._settings, codeset, project, commit, inputs))
        return objects.Run.of(self._api.runs.requested(request))

    def of_push(self, push: objects.Push) -> builtins.list[objects.Run]:
        """The runs that a push has started, as soon as the server has decided about every workflow.

        Raises NotFoundError with the reason when it started none; a push without changes starts none.
        """
        return [objects.Run.of(run) for run in pushes.started(self._api, push.project, push.codeset, push.commit)]

    def watch(self, name: str) -> Iterator[objects.Run]:
        """The run at each change of its state or of a step, until it has finished; the last item is final."""
        before = None
        for document in self._api.runs.watch(name):
            run = objects.Run.of(document)
            now = (run.state, run.cause, [(step.name, step.state, step.attempts) for step in run.steps])
            if now != before:
                yield run
            before = now

    def wait(self, name: str) -> objects.Run:
        """The finished run. A run that fails is a result, not an error."""
        [last] = collections.deque(self._api.runs.watch(name), maxlen=1)
        return objects.Run.of(last)

    def log(self, name: str, step: str, *, follow: bool = False) -> Iterator[str]:
        """The log of a step in pieces: up to now, or with `follow` until the step has ended."""
        return self._api.runs.text(name, step, follow=follow)

    def cancel(self, name: str, *, reason: str = "") -> objects.Run:
        """Stop the run and its steps. Raises ConflictError when it has finished."""
        return objects.Run.of(self._api.runs.cancel(name, reason=reason))

    def to_dataframe(self, *, limit: int | None = None, **filters: Unpack[shapes.RunFilters]) -> pandas.DataFrame:
        """The runs as a data frame, newest first: a row for each, a column for each fact, `input.NAME`, `output.NAME` and `metric.NAME`.

        Needs pandas; raises ModuleNotFoundError without it.
        """
        from fuseml.client import frames

        return frames.of_runs(self.list(limit=limit, **filters))


class Artifacts:
    """Artifacts: immutable results with an address such as `model://project/name/version`, or `@TAG` for the version."""

    def __init__(self, api: api.Client, given: settings.ClientSettings) -> None:
        self._api, self._settings = api, given

    def list(self, *, limit: int | None = None, **filters: Unpack[shapes.ArtifactFilters]) -> Iterator[objects.Artifact]:
        """Artifacts that match all filters, ordered by address."""
        return (objects.read(objects.Artifact, item) for item in self._api.artifacts.list(limit=limit, **filters))

    def get(self, address: str) -> objects.Artifact:
        """The artifact at the address. Raises NotFoundError."""
        return objects.read(objects.Artifact, self._api.artifacts.get(address))

    def pull(self, address: str, to: str | Path = "") -> Path:
        """Write the contents of an artifact into a new or empty folder, verified; the folder, which appears when it is complete.

        By default the folder has the name of the artifact. Raises ConflictError for a folder that is not empty.
        """
        folder = Path(to) if to else Path(artifact.reference(address).name.replace("/", "-"))
        artifact_contents.pull(self._api, address, folder)
        return folder

    def push(
        self, path: str | Path, *, kind: str, name: str, project: str = "", type: str = "", format: str = "", tag: str = ""
    ) -> objects.Artifact:
        """Store a file or folder as an artifact, and register it; equal contents are the same version.

        `kind` is dataset, model or runnable. `type` is the media type of the contents, `format` such as csv or onnx.
        """
        owner = project or self._settings.current_project() or self._api.projects.only()
        stored = artifact_contents.push(self._api, Path(path), kind, name, project=owner, type=type, format=format)
        return objects.read(objects.Artifact, self._api.artifacts.tag(stored["address"], tag) if tag else stored)

    def lineage(self, address: str, *, direction: str = "both", depth: int | None = None) -> objects.Lineage:
        """What an artifact was made from (`up`) and what was made from it (`down`), within `depth` steps; 10 by default."""
        return objects.Lineage.of(self._api.artifacts.lineage(address, direction, depth))


class Events:
    """Events: pushes, runs, models, and all else that happens."""

    def __init__(self, api: api.Client) -> None:
        self._api = api

    def list(
        self, *, type: str = "", subject: str = "", since: str = "", dead: bool = False, limit: int | None = None
    ) -> Iterator[objects.Event]:
        """Events that match all filters, newest first; only dead letters if `dead`. `since` is an RFC 3339 time, a type may end in `*`."""
        found = self._api.events.list(type=type, subject=subject, since=since, dead=dead, limit=limit)
        return (objects.read(objects.Event, item) for item in found)

    def tail(self, *, type: str = "", subject: str = "", since: str = "", last: int = 10) -> Iterator[objects.Event]:
        """New events without end, oldest first; an event comes again when its outcome changes. Starts with the `last` ones, or those since a
        time. Raises TemporaryError when the server is unreachable for half a minute.
        """
        found = self._api.events.follow(type=type, subject=subject, since=since, last=last)
        return (objects.read(objects.Event, item) for item in found)


def _request(
    given: settings.ClientSettings, codeset: str, project: str, commit: str, inputs: Mapping[str, str] | None
) -> shapes.RunRequest:
    request: shapes.RunRequest = {"project": project or given.current_project(), "inputs": dict(inputs or {})}
    if codeset and not request["project"]:
        raise errors.InvalidError(f"name the project of the codeset {codeset!r}")
    return {**request, "codeset": codeset, "commit": commit}
