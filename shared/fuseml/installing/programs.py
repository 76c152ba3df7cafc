"""The user's `kubectl` and `helm`: found on the PATH, with the user's kubeconfig. They end with this process."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fuseml.domain import errors

Object = dict[str, Any]
Watch = Callable[[], None]

_HOMES = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "helm": "https://helm.sh/docs/intro/install/",
    "kn": "https://knative.dev/docs/client/install-kn/",
}
_WATCH_SECONDS = 3.0
_DEATH_SIGNAL = 1
_MOST_TEXT = 2_000
_FORBIDDEN = re.compile(
    r'(?:User "[^"]*" )?cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"(?P<scope>[^\n]{0,120})'
)
# A line of the log of kubectl's own library.
_LOG_LINE = re.compile(r"^[EWIF]\d{4} [^\n]*\n?", re.MULTILINE)
_NO_CLUSTER = ("did you specify the right host or port", "Unable to connect to the server", "current-context")
_NO_KIND = ("the server doesn't have a resource type", "no matches for kind", "could not find the requested resource")


class Forbidden(errors.PermanentError):
    """The account of the kubeconfig lacks a right; `right` names it."""

    def __init__(self, right: str) -> None:
        super().__init__(f"the account of the kubeconfig may not {right}; ask an administrator of the cluster for this right")
        self.right = right


class Programs:
    """Runs programs with the user's environment, without FuseML's token. Their error output is shown without known secrets."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {name: value for name, value in environment.items() if name != "FUSEML_TOKEN"}
        self._secrets: set[str] = set()

    def hide(self, values: Iterable[str]) -> None:
        """Show these values nowhere. Values below six characters are shown."""
        self._secrets.update(value for value in values if len(value) >= 6)

    def check(self, names: Iterable[str]) -> None:
        """Raises PermanentError that names every missing program and its way in."""
        missing = [name for name in dict.fromkeys(names) if not shutil.which(name, path=self._environment.get("PATH", ""))]
        if missing:
            ways = ", ".join(f"{name} ({_HOMES[name]})" if name in _HOMES else name for name in missing)
            raise errors.PermanentError(
                f"{'these programs are' if len(missing) > 1 else 'this program is'} not on the PATH; install {ways}"
            )

    def run(self, command: Sequence[str], *, text: str | None = None, folder: Path | None = None, watch: Watch | None = None) -> str:
        """The standard output. `watch` is called every few seconds. Raises PermanentError with the error output, Forbidden for a missing right."""
        self.check(command[:1])
        with subprocess.Popen(
            command,
            env=self._environment,
            cwd=folder,
            stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - this process has one thread
        ) as process:
            try:
                output, problem = _communicate(process, text, watch)
            except BaseException:
                # Asked to end, helm marks its release as failed, which the next attempt can repair.
                process.terminate()
                raise
        if process.returncode:
            raise self._failure(command, problem.strip() or output.strip(), process.returncode)
        return output

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """The output of `kubectl`."""
        return self.run(["kubectl", *arguments], text=text)

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object; None if it, its namespace or its kind does not exist."""
        try:
            text = self.kubectl("get", kind, name, "--output=json", "--ignore-not-found", *_namespace(namespace))
        except errors.PermanentError as error:
            if any(sign in error.message for sign in _NO_KIND):
                return None
            raise
        found: Object | None = json.loads(text) if text.strip() else None
        return found

    def list(self, kind: str, *arguments: str) -> list[Object]:
        """The objects of a kind; empty if the cluster does not know it."""
        try:
            items: list[Object] = json.loads(self.kubectl("get", kind, "--output=json", *arguments))["items"]
        except errors.PermanentError as error:
            if any(sign in error.message for sign in _NO_KIND):
                return []
            raise
        return items

    def apply(self, objects: Iterable[Object]) -> None:
        """Apply objects server-side; they reach kubectl by its standard input, never by a command line."""
        import yaml

        text = yaml.safe_dump_all(objects, sort_keys=False)
        self.kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=fuseml", "--filename=-", text=text)

    def _failure(self, command: Sequence[str], problem: str, code: int) -> errors.PermanentError:
        for secret in self._secrets:
            problem = problem.replace(secret, "<hidden>")
        problem = _LOG_LINE.sub("", problem).strip() or problem
        if any(text in problem for text in _NO_CLUSTER):
            return errors.PermanentError(f"no cluster answers: {problem[-_MOST_TEXT:]}; set KUBECONFIG to the file of your cluster")
        refused = _FORBIDDEN.search(problem)
        if refused:
            group = f".{refused['group']}" if refused["group"] else ""
            return Forbidden(f"{refused['verb']} {refused['resource']}{group}{refused['scope'].rstrip()}")
        if len(problem) > _MOST_TEXT:
            # The first line is often the cause, and the last one the way out.
            problem = f"{problem[: _MOST_TEXT // 2]} ... {problem[-_MOST_TEXT // 2 :]}"
        detail = problem or f"it ended with exit code {code}"
        return errors.PermanentError(f"`{' '.join(command[:3])} ...` failed: {detail}")


def _communicate(process: subprocess.Popen[str], text: str | None, watch: Watch | None) -> tuple[str, str]:
    while True:
        try:
            return process.communicate(text, timeout=_WATCH_SECONDS if watch else None)
        except subprocess.TimeoutExpired:
            text = None  # it is sent already
            if watch:
                watch()


def _end_with_parent() -> None:
    from fuseml.processes.program import prctl

    prctl(_DEATH_SIGNAL, signal.SIGTERM)


def _namespace(namespace: str) -> Sequence[str]:
    return [f"--namespace={namespace}"] if namespace else []
