"""Probes: recognition of tools (`detect`) and health checks (`check`).

Each tool is one module, listed in `TOOLS`, or a plugin. Probes only send GET requests, within the limits of `targets`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fuseml.domain import errors
from fuseml.domain.registry import extension
from fuseml.plugins import Seam
from fuseml.probes import gitea, inference, lakefs, mlflow, mlrun, oci, s3, targets
from fuseml.probes.targets import Target
from fuseml.probes.tool import Tool

_log = logging.getLogger("fuseml.probes")

TOOLS: tuple[Tool, ...] = (mlflow.TOOL, gitea.TOOL, lakefs.TOOL, mlrun.TOOL, inference.TOOL, oci.TOOL, s3.TOOL)
"""The first tool that recognises a URL decides. Gitea serves an OCI registry as well, so it precedes `oci`."""

PLUGINS: Seam[Tool] = Seam(
    "fuseml.probes",
    1,
    {tool.detect.__module__.rpartition(".")[2] for tool in TOOLS},
    refusal=errors.PermanentError,
    own=errors.FusemlError,
    accepts=lambda item: isinstance(item, Tool),
    shape="a fuseml.probes.tool.Tool",
)
"""Tools of other packages. They follow the built-in ones."""

Check = Callable[[str, Target], str | None]
"""The type of `check`, for callers that get it as a dependency."""


def detect(target: Target) -> extension.Extension | None:
    """A draft record of the tool at the target; None if no probe recognises it.

    Raises TemporaryError when nothing answers, InvalidError for a URL that is not http(s).
    """
    recognised = next((record for tool in TOOLS if (record := tool.detect(target)) is not None), None)
    return recognised or _detect_by_plugins(target)


def _detect_by_plugins(target: Target) -> extension.Extension | None:
    for name, tool in PLUGINS.usable():
        # The target may be the tool of another plugin, whatever this one makes of it.
        try:
            record = PLUGINS.call(name, tool.detect, target)
        except errors.FusemlError as error:
            _log.warning("the probe %s is left out: %s", name, error.message)
            continue
        if record is not None:
            return record
    return None


def check(resource: str, target: Target) -> str | None:
    """The problem and its remedy; None for a healthy target.

    Without credentials, the endpoint must respond without a server error. With credentials, the service of the protocol `resource` must
    accept them. Raises InvalidError for a URL that is not http(s), PermanentError for credentials that no probe can check, and
    TemporaryError when the endpoint gives no answer about them.
    """
    targets.parse(target.url)
    if not target.credentials:
        return _check_endpoint(target)
    check_credentials = _check_of(resource)
    if check_credentials is None:
        raise errors.PermanentError(f"no probe can check credentials of {resource or 'a service without resource'}")
    try:
        return check_credentials(target)
    except errors.InvalidError as error:
        return error.message


def _check_of(resource: str) -> Callable[[Target], str | None] | None:
    built_in = next((tool.check for tool in TOOLS if resource in tool.resources and tool.check), None)
    if built_in is not None:
        return built_in
    return next((_guarded(name, tool.check) for name, tool in PLUGINS.usable() if resource in tool.resources and tool.check), None)


def _guarded(name: str, check: Callable[[Target], str | None]) -> Callable[[Target], str | None]:
    return lambda target: PLUGINS.call(name, check, target)


def _check_endpoint(target: Target) -> str | None:
    try:
        status = target.get().status
    except errors.TemporaryError as error:
        return error.message
    return f"{target.origin} responds with status {status}; see its log" if status >= 500 else None
