"""Asks tools who they are (`detect`) and whether they are well (`check`).

Each tool is one small module; `TOOLS` is where a new one is added. Probes only ever read, within the limits of `target`.
"""

from __future__ import annotations

from collections.abc import Callable

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.probes import gitea, inference, mlflow, oci, s3, targets
from fuseml.probes.targets import Target
from fuseml.probes.tool import Tool

TOOLS: tuple[Tool, ...] = (mlflow.TOOL, gitea.TOOL, inference.TOOL, oci.TOOL, s3.TOOL)
"""The first that recognises an address names it. Gitea serves an OCI registry as well, so it stands before `oci`."""

Check = Callable[[str, Target], str | None]
"""What `check` is, for who is given another one."""


def detect(target: Target) -> extension.Extension | None:
    """A draft record of what answers at the target; None for what no tool recognises.

    Raises TemporaryError when nothing answers, InvalidError for no http(s) URL.
    """
    return next((found for tool in TOOLS if (found := tool.detect(target)) is not None), None)


def check(resource: str, target: Target) -> str | None:
    """What is wrong, and what to do about it; None when all is well.

    Without credentials: does the endpoint answer, and not with a fault of its own? With credentials: does the service behind it,
    which speaks the protocol `resource`, accept them? Raises InvalidError for a URL that is not http(s), PermanentError for
    credentials that nobody knows how to try, TemporaryError when an endpoint that is away says nothing about them.
    """
    targets.parse(target.url)
    if not target.credentials:
        return _reach(target)
    try_credentials = next((tool.check for tool in TOOLS if resource in tool.resources and tool.check), None)
    if try_credentials is None:
        raise errors.PermanentError(f"no probe knows how to try credentials of {resource or 'a service without resource'}")
    try:
        return try_credentials(target)
    except errors.InvalidError as error:
        return error.message


def _reach(target: Target) -> str | None:
    try:
        status = target.get().status
    except errors.TemporaryError as error:
        return error.message
    return f"{target.origin} answers with {status}; its own log says why" if status >= 500 else None
