"""The plan of an installation: the tools, the steps that remain of each, and what the user should know before."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fuseml.domain import errors
from fuseml.domain.installation import commands
from fuseml.domain.installation.description import Step
from fuseml.installing import folders
from fuseml.installing.folders import Tool
from fuseml.installing.ledger import Entry
from fuseml.installing.programs import Programs


@dataclass(frozen=True, slots=True)
class PlannedTool:
    """A tool of the plan. `install`: steps remain; `installed`: none; `present`: the cluster has it from elsewhere, and it is left alone."""

    tool: Tool
    state: Literal["install", "installed", "present"]
    steps: Sequence[tuple[Step, str]] = ()
    entry: Entry | None = None

    @property
    def shipped(self) -> bool:
        """Whether the description is one that ships."""
        return self.tool.folder.parent == folders.SHIPPED

    def remaining(self) -> Sequence[tuple[Step, str]]:
        """The steps that are not done yet, with their digests."""
        done = self.entry.done if self.entry else ()
        return [(step, digest) for step, digest in self.steps if digest not in done]


def plan(tools: Sequence[Tool], entries: Mapping[str, Entry], definitions: Collection[str], *, again: bool = False) -> list[PlannedTool]:
    """The plan for `tools`, the target last. With `again` every step of the target is repeated.

    Raises ConflictError if the cluster has the target from elsewhere.
    """
    planned = []
    for tool in tools:
        is_target = tool is tools[-1]
        entry = entries.get(tool.name)
        steps = [(step, tool.digest(step)) for step in tool.description.install]
        detected = [name for name in tool.description.detect if name in definitions]
        if entry is None and detected:
            if is_target:
                raise errors.ConflictError(
                    f"the cluster has {tool.name} already, and FuseML has not installed it: it defines {', '.join(detected)}; register it with "
                    "`fuseml extension discover --cluster --apply`"
                )
            planned.append(PlannedTool(tool, "present"))
            continue
        if entry is not None and again and is_target:
            entry = replace(entry, state="installing", done=())
        is_done = entry is not None and entry.state == "installed" and all(digest in entry.done for _, digest in steps)
        planned.append(PlannedTool(tool, "installed" if is_done else "install", steps, entry))
    return planned


def definitions(programs: Programs, tools: Sequence[Tool]) -> Collection[str]:
    """The names of those resource definitions by which the tools are detected, that the cluster has."""
    wanted = [name for tool in tools for name in tool.description.detect]
    return [name for name in wanted if programs.find("customresourcedefinition", name)] if wanted else []


def needed(tools: Sequence[PlannedTool]) -> list[str]:
    """The programs that the plan needs."""
    types = {step.type for tool in tools for step, _ in tool.remaining()}
    return ["kubectl", *(["helm"] if "helm" in types else [])]


def scripts(tools: Sequence[PlannedTool]) -> list[str]:
    """The files of the scripts that the plan would execute."""
    return [item.tool.place(step.location) for item in tools for step, _ in item.remaining() if step.type == "script"]


def rows(tools: Sequence[PlannedTool]) -> list[dict[str, object]]:
    """The plan as a table: a row for each step, or for a tool without remaining ones."""
    table: list[dict[str, object]] = []
    for item in tools:
        name, owner = item.tool.name, item.tool.description
        if item.state != "install":
            detail = "already installed" if item.state == "installed" else "found on the cluster, left alone"
            table.append({"tool": name, "version": owner.version, "step": detail, "namespace": owner.namespace, "state": item.state})
            continue
        remaining = [digest for _, digest in item.remaining()]
        for step, digest in item.steps:
            table.append(
                {
                    "tool": name,
                    "version": owner.version,
                    "step": commands.summary(owner, step),
                    "namespace": owner.namespace_of(step),
                    "state": "to do" if digest in remaining else "done",
                }
            )
        table.append({"tool": name, "version": owner.version, "step": "record in the registry", "namespace": "", "state": "to do"})
    return table
