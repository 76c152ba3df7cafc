"""Pushes of folders and public repositories to codesets, with the credentials of the registration or of the settings."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fuseml.client import git, runs
from fuseml.domain import errors, urls

if TYPE_CHECKING:
    from fuseml.client import event_shapes, shapes
    from fuseml.client.api import Client
    from fuseml.client.settings import ClientSettings

_INTERVAL = 0.3
# Seconds for which an unreachable server is asked again; a restart takes less.
_UNREACHABLE = 30.0


def push(client: Client, given: ClientSettings, location: str, *, project: str, name: str, message: str = "") -> git.PushResult:
    """Push the files of a folder, or of a public repository at a URL, as a new codeset version; equal files push nothing.

    Registers the codeset and its project if they do not exist, once the source can be read. Raises InvalidError without files.
    """
    with source(given, location) as folder:
        return send(given, client.codesets.register(project, name), folder, location, message)


def send(given: ClientSettings, registration: shapes.Registration, folder: Path, location: str, message: str = "") -> git.PushResult:
    """Push the files of the folder, the `source` of `location`, to a registered codeset."""
    configured_user, configured_password = given.git_account()
    user = registration.get("username") or configured_user or "fuseml"
    password = registration.get("password") or configured_password or given.access_token() or ""
    remote = git.Remote(registration["codeset"]["url"], user, password, given.environment)
    return remote.push_folder(folder, message or f"New codeset update from {urls.shown(location)}")


@contextlib.contextmanager
def source(given: ClientSettings, location: str) -> Iterator[Path]:
    """The folder of a location, which may be the URL of a repository. Raises InvalidError, NotFoundError."""
    if not urlsplit(location).netloc:
        folder = Path(location).resolve()
        if not folder.is_dir():
            raise errors.InvalidError(f"{folder} is not a folder")
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="fuseml-source-") as scratch:
        cloned = Path(scratch) / "source"
        git.clone_source(location, cloned, given.environment)
        yield cloned


def started(
    client: Client,
    project: str,
    codeset: str,
    commit: str,
    *,
    patience: float | None = None,
    report: Callable[[str], None] = lambda _text: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> list[shapes.Run]:
    """The runs that the push of a commit has started, as soon as the server has decided about every workflow.

    `report` gets the reasons of a late decision and of one that failed. Raises NotFoundError with the reason when the push started none, when
    the server has not seen it after 15 seconds, and when the server has not decided within `patience` seconds. Retries for half a minute
    while the server is unreachable.
    """
    begun = last_seen = clock()
    reported = ""
    while True:
        try:
            # The decisions are read before the runs: those of all decisions that were made exist.
            outcomes = _outcomes(client, commit)
            if outcomes and not any(outcome["state"] == "pending" for outcome in outcomes):
                found = _of(client, project, codeset, commit, outcomes)
                if dead := _reasons(outcomes, "dead"):
                    report(f"The push has started less than it should: {dead}")
                return found
        except errors.TemporaryError:
            if clock() - last_seen > (_UNREACHABLE if patience is None else patience):
                raise
        else:
            last_seen = clock()
            if patience is not None and last_seen - begun > patience:
                raise errors.NotFoundError(f"the server has not decided on the push yet; `fuseml why {commit[:12]}` shows its runs")
            if last_seen - begun > runs.APPEARS:
                if not outcomes:
                    raise errors.NotFoundError(f"the server has not seen the push yet; `fuseml why {commit[:12]}` shows its state")
                pending = _reasons(outcomes, "pending")
                if pending not in ("", reported):
                    report(f"The push is not decided on yet: {pending}")
                    reported = pending
        sleep(_INTERVAL)


def _outcomes(client: Client, commit: str) -> list[event_shapes.Outcome]:
    """The outcomes of the events of the commit; refused deliveries of webhooks are none of them."""
    stories = client.events.why(commit)["stories"]
    return [outcome for story in stories if any(link["kind"] == "event" for link in story["chain"]) for outcome in story["outcomes"]]


def _of(client: Client, project: str, codeset: str, commit: str, outcomes: Sequence[event_shapes.Outcome]) -> list[shapes.Run]:
    found = {run["name"]: run for run in client.runs.list(project=project, codeset=codeset, commit=commit)}
    # Those of what the commit brought beside its code.
    found |= {name: client.runs.get(name) for outcome in outcomes if (name := outcome.get("run")) and name not in found}
    if not found:
        reasons = "; ".join(dict.fromkeys(outcome["reason"] for outcome in outcomes))
        assign = f"`fuseml workflow assign NAME -p {project} -c {codeset}` assigns a workflow"
        raise errors.NotFoundError(f"the push started no run: {reasons}; {assign}")
    return list(found.values())


def _reasons(outcomes: Sequence[event_shapes.Outcome], state: str) -> str:
    return "; ".join(dict.fromkeys(outcome["reason"] for outcome in outcomes if outcome["state"] == state))
