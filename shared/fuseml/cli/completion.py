"""Completion of names in the shell, from the server: quick, and without a word where no server answers."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import typer

from fuseml.cli import session
from fuseml.domain import errors

if TYPE_CHECKING:
    from fuseml.client.api import Client

# A shell waits for the answer after each press of the tab key.
_SECONDS = 2.0
_MOST = 100
# A shell evaluates the answer.
_HARMLESS = re.compile(r"[\w./:@+-]{1,300}")

Complete = Callable[[typer.Context, str], list[str]]


def _completes(find: Callable[[Client, str], Iterable[Mapping[str, object]]], key: str = "name") -> Complete:
    """A completion by the values of `key` in what `find` returns for a client and the project of the command line."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        given = session.settings(ctx)
        ctx.obj = dataclasses.replace(given, timeout=min(given.timeout, _SECONDS), verbose=False)
        try:
            project = ctx.params.get("project") or ctx.params.get("codeset_project") or given.current_project()
            names = (str(item[key]) for item in find(session.connect(ctx), str(project or "")))
            fitting = (name for name in dict.fromkeys(names) if name.startswith(incomplete) and _HARMLESS.fullmatch(name))
            return list(itertools.islice(fitting, _MOST))
        except errors.FusemlError:
            # A message would stand in the middle of the line that the user writes.
            return []

    return complete


runs = _completes(lambda client, project: client.runs.list(project=project, limit=_MOST))
projects = _completes(lambda client, _: client.projects.list())
codesets = _completes(lambda client, project: client.codesets.list(project))
workflows = _completes(lambda client, _: client.workflows.list())
applications = _completes(lambda client, _: client.applications.list())
extensions = _completes(lambda client, _: client.extensions.list(), "id")
models = _completes(lambda client, project: client.artifacts.list(kind="model", project=project))
artifacts = _completes(lambda client, project: client.artifacts.list(project=project), "address")
runnables = _completes(lambda client, project: client.runnables.list(project=project))

_OF_GROUP: Mapping[str, Complete] = {
    "project": projects,
    "target": projects,
    "codeset": codesets,
    "delete": codesets,
    "push": codesets,
    "workflow": workflows,
    "application": applications,
    "runnable": runnables,
}


def of_group(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names of the things that the group of the command is about."""
    for name in (ctx.parent.info_name if ctx.parent else "", ctx.info_name):
        if complete := _OF_GROUP.get(name or ""):
            return complete(ctx, incomplete)
    return []
