"""Executes a plan: namespaces, accounts, steps, rights and gateways of each tool, each of which may be repeated."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fuseml.domain import errors
from fuseml.domain.installation import commands, description, objects, waiting
from fuseml.domain.installation.description import Description, Step, Wait
from fuseml.installing.folders import Tool
from fuseml.installing.ledger import Entry, Ledger
from fuseml.installing.plan import PlannedTool
from fuseml.installing.programs import Programs

Report = Callable[[str], None]
_WAIT_SECONDS = 1.0
# As kubectl begins its report of fields with another owner.
_FOREIGN = "Apply failed with "
_ISTIO = "gateways.networking.istio.io"


@dataclass
class Installer:
    """`domain` is that of gateways; empty: none are made. `report` gets the lines of progress, `register` a tool once it runs."""

    programs: Programs
    ledger: Ledger
    report: Report
    register: Callable[[Tool], None] | None = None
    domain: str = ""
    clock: Callable[[], float] = time.monotonic
    _reported: set[str] = field(default_factory=set)

    def install(self, item: PlannedTool) -> None:
        """Execute the remaining steps of a tool, register it, and record it as installed. Raises PermanentError where a step fails."""
        tool, owner = item.tool, item.tool.description
        if item.state == "present":
            return
        if item.state == "install":
            self.ledger.prepare()
            entry = item.entry or Entry(tool.name, tool.text)
            entry = replace(entry, text=tool.text, state="installing", domain=self.domain or entry.domain, shipped=item.shipped)
            self.ledger.write(entry)
            entry = self._prepare(owner, entry)
            total = len(item.steps)
            for number, (step, digest) in enumerate(item.steps, 1):
                label = f"{tool.name} {number}/{total} {commands.summary(owner, step)}"
                if digest in entry.done:
                    self.report(f"{label}: done before")
                    continue
                entry = self._execute(tool, step, entry, digest, label)
            self._finish(owner, entry)
            entry = replace(entry, done=tuple(digest for digest in entry.done if digest in [each for _, each in item.steps]))
            self._register(tool)
            self.ledger.write(replace(entry, state="installed"))
        else:
            self._register(tool)

    def _register(self, tool: Tool) -> None:
        if self.register is not None:
            self.register(tool)

    def _prepare(self, owner: Description, entry: Entry) -> Entry:
        for name in description.installed_namespaces(owner):
            found = self.programs.find("namespace", name)
            # Recorded first: a namespace that exists without a record would stay after the removal. One that was made for another tool is
            # recorded for both, and goes with the last of them.
            is_own = found is None or (objects.is_made(found) and name != objects.LEDGER)
            if is_own and name not in entry.namespaces:
                entry = replace(entry, namespaces=(*entry.namespaces, name))
                self.ledger.write(entry)
            if found is None:
                self.programs.apply([objects.namespace(name, owner.name)])
                self.report(f"{owner.name} namespace {name}")
        for account in owner.accounts:
            namespace = account.namespace or owner.namespace
            # An existing account is kept: the tool may have taken it over already.
            if self.programs.find("secret", account.secret, namespace) is None:
                generated = {key: _password() for key in account.generate}
                self.programs.hide(generated.values())
                self.programs.apply([objects.account(account, owner, generated)])
                self.report(f"{owner.name} account {namespace}/{account.secret}")
        return entry

    def _execute(self, tool: Tool, step: Step, entry: Entry, digest: str, label: str) -> Entry:
        owner, started = tool.description, self.clock()
        self.report(f"{label} ...")
        key = commands.key(owner, step)
        if step.type == "helm":
            self._settle_release(owner, step, interrupted=entry.running == digest, own=key in entry.begun)
        repeated = key in entry.begun
        entry = entry.begins(digest, key)
        self.ledger.write(entry)
        self._run(tool, step, entry, key, label, repeated=repeated)
        for each in step.waitfor:
            self._wait(owner, step, each, label)
        entry = entry.ends(digest)
        self.ledger.write(entry)
        self.report(f"{label}: done in {self.clock() - started:.1f} s")
        return entry

    def _run(self, tool: Tool, step: Step, entry: Entry, key: str, label: str, *, repeated: bool) -> None:
        owner = tool.description
        namespace = owner.namespace_of(step)
        watch = (lambda: self._report_pods(label, namespace)) if namespace else None
        try:
            self.programs.run(commands.install(owner, step, tool.place, repeated=repeated), folder=tool.folder, watch=watch)
        except errors.PermanentError as error:
            if repeated or _FOREIGN not in error.message:
                raise
            # Else the next attempt would take the objects over, and the removal delete them.
            self.ledger.write(entry.withdraws(key))
            raise errors.ConflictError(
                f"{label} would change objects that FuseML has not made, and left them as they were; remove them, or register the tool that "
                f"has them with `fuseml extension discover --cluster --apply`: {error.message}"
            ) from error

    def _settle_release(self, owner: Description, step: Step, *, interrupted: bool, own: bool) -> None:
        """Free a release whose operation was interrupted, which helm refuses to change.

        Raises ConflictError for one that another installation is changing, or that FuseML has not made.
        """
        found = json.loads(self.programs.run(commands.releases(owner, step)) or "[]")
        status = str(found[0].get("status", "")) if found else ""
        release = owner.release(step)
        if found and not own:
            raise errors.ConflictError(
                f"the cluster has a helm release {release} already, and FuseML has not installed it; register the tool with `fuseml extension "
                "discover --cluster --apply`, or remove the release first"
            )
        if status.startswith("pending"):
            if not interrupted:
                raise errors.ConflictError(
                    f"the helm release {release} is {status}: another helm changes it; wait for its end, or run `helm rollback {release}`"
                )
            action = "uninstall" if status == "pending-install" else "rollback"
            self.report(f"{owner.name}: the interrupted helm release {release} ({status}) is repaired")
            namespace = owner.namespace_of(step)
            self.programs.run(["helm", action, release, "--wait", *([f"--namespace={namespace}"] if namespace else [])])

    def _wait(self, owner: Description, step: Step, wait: Wait, label: str) -> None:
        namespace = wait.namespace or owner.namespace_of(step)
        selector = [f"--selector={wait.selector}"] if wait.selector not in ("all", "") else []
        until = self.clock() + wait.timeout
        place = [f"--namespace={namespace}"] if namespace else []
        while reason := waiting.unmet(self.programs.list(wait.kind, *selector, *place), wait.condition):
            self._report_once(f"{label} waits: {reason}")
            if self.clock() > until:
                subject = f"{wait.kind} {wait.selector}" + (f" in {namespace}" if namespace else "")
                raise errors.PermanentError(
                    f"{subject} is not {wait.condition} after {wait.timeout} seconds: {reason}; correct that and repeat the command, which "
                    "continues with this step"
                )
            time.sleep(_WAIT_SECONDS)

    def _report_pods(self, label: str, namespace: str) -> None:
        try:
            pods = self.programs.list("pods", f"--namespace={namespace}")
        except errors.PermanentError:
            return  # only progress: the step itself may have all rights that it needs, and outlasts a server that is away for a moment
        if pods and (reason := waiting.unmet(pods, "ready")):
            self._report_once(f"{label} waits: {reason}")

    def _finish(self, owner: Description, entry: Entry) -> None:
        rights = objects.rights(owner)
        if rights and self.programs.find("namespace", objects.WORKLOADS) is None:
            self.report(f"{owner.name}: no rights for steps, because the cluster has no namespace {objects.WORKLOADS}")
        elif rights:
            self.programs.apply(rights)
            self.report(f"{owner.name} rights of steps")
        if owner.gateways and entry.domain:
            if self.programs.find("customresourcedefinition", _ISTIO) is None:
                self.report(f"{owner.name}: no address below {entry.domain}, because the cluster has no Istio")
            else:
                self.programs.apply(list(objects.gateways(owner, entry.domain)))
                self.report(f"{owner.name} gateways below {entry.domain}")

    def _report_once(self, line: str) -> None:
        if line not in self._reported:
            self._reported.add(line)
            self.report(line)


def _password() -> str:
    """32 random bytes in base64, which is also a key of Fernet. Begins with no sign that a program takes for an option."""
    while True:
        password = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        if password[0].isalnum():
            return password
