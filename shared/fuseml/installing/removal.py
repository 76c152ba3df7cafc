"""Removes an installed tool: the steps of its description in reverse, and all that the installer has made for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from fuseml.domain import errors
from fuseml.domain.installation import commands, objects
from fuseml.domain.installation.description import Description, Step
from fuseml.installing import folders
from fuseml.installing.folders import Tool
from fuseml.installing.ledger import Entry, Ledger
from fuseml.installing.programs import Programs

_ISTIO = ("virtualservices.networking.istio.io", "gateways.networking.istio.io")


@dataclass(frozen=True, slots=True)
class Removal:
    """One tool to remove: its description as it was installed, and the folder with its files."""

    tool: Tool
    entry: Entry

    @property
    def name(self) -> str:
        return self.tool.name


def plan(place: str, entries: Mapping[str, Entry], *, with_requirements: bool = False) -> list[Removal]:
    """The tools to remove, the last installed first.

    `place` is the name of a tool, or the folder of its description. With `with_requirements` those that only it requires follow. Raises
    NotFoundError for a tool that is not installed, ConflictError for one that another installed tool requires.
    """
    given = folders.tool(place) if place not in entries else None
    name = given.name if given else place
    if name not in entries:
        known = f"installed are {', '.join(sorted(entries))}" if entries else "no tool is"
        raise errors.NotFoundError(f"{name} is not installed by FuseML on this cluster; {known}")
    installed = {tool: folders.parsed(entry.text, f"the record of {tool}") for tool, entry in entries.items()}
    removed = [name]
    _check_unused(name, installed, removed)
    if with_requirements:
        for required in reversed(_chain(name, installed)):
            if not _users(required, installed, removed):
                removed.append(required)
    return [Removal(_tool(each, installed[each], entries[each], given), entries[each]) for each in removed]


def rows(removals: Sequence[Removal], *, registered: bool) -> list[dict[str, object]]:
    """The plan as a table."""
    table: list[dict[str, object]] = []
    for item in removals:
        owner = item.tool.description
        if registered:
            table.append({"tool": item.name, "step": "record in the registry", "namespace": ""})
        for step in _steps(item):
            table.append({"tool": item.name, "step": commands.summary(owner, step), "namespace": owner.namespace_of(step)})
        for namespace in item.entry.namespaces:
            table.append({"tool": item.name, "step": "namespace, with its data", "namespace": namespace})
    return table


def scripts(removals: Sequence[Removal]) -> list[str]:
    """The files of the scripts that the removal would execute."""
    return [item.tool.place(step.location) for item in removals for step in _steps(item) if step.type == "script"]


def programs(removals: Sequence[Removal]) -> list[str]:
    """The programs that the removal needs."""
    types = {step.type for item in removals for step in _steps(item)}
    return ["kubectl", *(["helm"] if "helm" in types else [])]


@dataclass
class Remover:
    """`unregister` gets the name of each tool before its steps."""

    programs: Programs
    ledger: Ledger
    report: Callable[[str], None]
    unregister: Callable[[str], None] | None = None

    def remove(self, item: Removal, others: Mapping[str, Entry]) -> None:
        """Remove a tool. Namespaces that one of the `others` uses stay, and what the installer has not made. What is gone already is no error."""
        owner, name = item.tool.description, item.name
        if self.unregister is not None:
            self.unregister(name)
        self.ledger.write(replace(item.entry, state="removing", done=(), running=""))
        self._delete_own(owner, item.entry)
        for step in _steps(item):
            self.report(f"{name} {commands.summary(owner, step)} ...")
            self._step(item.tool, step)
        kept = {each for other in others.values() for each in other.namespaces}
        for account in owner.accounts:
            namespace = account.namespace or owner.namespace
            # One that existed before the installation was kept, and is not the tool's.
            if objects.is_made(self.programs.find("secret", account.secret, namespace), name):
                self._delete("secret", account.secret, namespace)
        for namespace in item.entry.namespaces:
            # It is recorded before it is made, and in between it may have been made by others.
            if namespace not in kept and objects.is_made(self.programs.find("namespace", namespace)):
                self.report(f"{name} namespace {namespace} ...")
                self.programs.kubectl("delete", "namespace", namespace, "--ignore-not-found")
        self.ledger.remove(name)
        self.report(f"{name} is removed")

    def _step(self, tool: Tool, step: Step) -> None:
        owner = tool.description
        if step.type == "helm" and not json.loads(self.programs.run(commands.releases(owner, step)) or "[]"):
            return
        try:
            self.programs.run(commands.remove(owner, step, tool.place), folder=tool.folder)
        except errors.PermanentError as error:
            # Objects of a definition that is deleted already are gone, too.
            if step.type not in ("manifest", "kustomize") or "no matches for kind" not in error.message:
                raise

    def _delete_own(self, owner: Description, entry: Entry) -> None:
        if owner.rolerules and self.programs.find("namespace", objects.WORKLOADS) is not None:
            for kind in ("rolebinding", "role"):
                self._delete(kind, f"tool-{owner.name}", objects.WORKLOADS)
        if owner.gateways and entry.domain:
            for kind in _ISTIO:
                if self.programs.find("customresourcedefinition", kind) is not None:
                    for gateway in owner.gateways:
                        self._delete(kind, gateway.name, gateway.namespace or owner.namespace)

    def _delete(self, kind: str, name: str, namespace: str) -> None:
        self.programs.kubectl("delete", kind, name, f"--namespace={namespace}", "--ignore-not-found")


def _steps(item: Removal) -> list[Step]:
    """The steps of the removal, without those that take back a step which was never begun: what it names belongs to others."""
    owner, begun = item.tool.description, item.entry.begun
    unbegun = {key for each in owner.install if (key := commands.key(owner, each)) not in begun}
    steps = [_with_release(owner, step) for step in owner.removal()]
    return [step for step in steps if commands.key(owner, step) not in unbegun] if begun else []


def _with_release(owner: Description, step: Step) -> Step:
    """A helm step of `uninstall` without a namespace or release means those of the only helm step of the installation."""
    installed = [each for each in owner.install if each.type == "helm"]
    if step.type != "helm" or step.release or len(installed) != 1:
        return step
    return step.model_copy(update={"release": owner.release(installed[0]), "namespace": step.namespace or installed[0].namespace})


def _tool(name: str, installed: Description, entry: Entry, given: Tool | None) -> Tool:
    if given is not None:
        folder = given.folder if given.name == name else given.folder.resolve().parent / name
        if (folder / folders.FILE).is_file():
            return Tool(installed, entry.text, folder)
    if entry.shipped and name in folders.shipped():
        return Tool(installed, entry.text, folders.SHIPPED / name)
    if any(installed.places()):
        raise errors.InvalidError(
            f"{name} was installed from a folder with files that its removal needs; give that folder instead of the name"
        )
    return Tool(installed, entry.text, folders.SHIPPED)


def _users(name: str, installed: Mapping[str, Description], removed: Sequence[str]) -> list[str]:
    return sorted(tool for tool, each in installed.items() if name in each.requires and tool not in removed)


def _check_unused(name: str, installed: Mapping[str, Description], removed: Sequence[str]) -> None:
    users = _users(name, installed, removed)
    if users:
        raise errors.ConflictError(f"{', '.join(users)} requires {name}; remove {'it' if len(users) == 1 else 'them'} first")


def _chain(name: str, installed: Mapping[str, Description]) -> list[str]:
    """The installed tools that the tool requires, each before those that require it."""
    from fuseml.domain.installation import order

    return [tool for tool in order.ordered(name, lambda each: installed[each].requires if each in installed else ()) if tool in installed][
        :-1
    ]
