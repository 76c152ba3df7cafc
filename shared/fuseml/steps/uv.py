"""The uv program: where it is, and one call of it with its messages in the step's log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuseml.steps import sdk

# Box-drawing characters of uv's messages; a cause is one line of plain text.
_DRAWING = re.compile("[\u00d7\u2500-\u257f\u25b6]+")
_KEPT_LINES = 12


def program() -> str:
    """The path of the uv program: that of the Python package, or on the PATH. Raises StepError without either."""
    try:
        from uv import find_uv_bin  # type: ignore[import-not-found,unused-ignore]

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        found = shutil.which("uv")
    if found is None:
        raise sdk.StepError("the program 'uv', which builds environments, is missing: install it with 'pip install uv'")
    return found


@dataclass(frozen=True)
class Uv:
    """The uv program in the folder `folder`, with a package index and a folder or page of wheels.

    `index` is a URL, `none` for none, empty for uv's own setting; `settings` are further variables.
    """

    folder: Path
    index: str = ""
    find_links: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def run(self, arguments: Sequence[str], failure: str, text: str = "") -> None:
        """Run uv with `text` as its standard input, and log its messages. Raises StepError: `failure`, and the last messages."""
        messages: list[str] = []
        with self._started(arguments, subprocess.STDOUT) as process:
            assert process.stdin is not None and process.stdout is not None
            with process.stdin as given:
                given.write(text)
            for line in process.stdout:
                sdk.say(line.rstrip())
                messages.append(_DRAWING.sub(" ", line).strip())
        if process.returncode != 0:
            raise sdk.StepError(f"{failure}: {_cause(messages, process.returncode)}")

    def output(self, arguments: Sequence[str], failure: str) -> str:
        """The output of uv. Raises StepError."""
        with self._started(arguments, subprocess.PIPE) as process:
            output, messages = process.communicate()
        if process.returncode != 0:
            raise sdk.StepError(
                f"{failure}: {_cause([_DRAWING.sub(' ', line).strip() for line in messages.splitlines()], process.returncode)}"
            )
        return output

    def succeeds(self, arguments: Sequence[str]) -> bool:
        """Whether uv exits with 0."""
        with self._started(arguments, subprocess.PIPE) as process:
            process.communicate()
        return process.returncode == 0

    def _started(self, arguments: Sequence[str], stderr: int) -> subprocess.Popen[str]:
        environment = {**os.environ, "UV_NO_PROGRESS": "1", **self.settings}
        # Variables, not arguments: a URL may hold a password, and command lines are readable for every user of the machine.
        if self.index not in ("", "none"):
            environment["UV_DEFAULT_INDEX"] = self.index
        if self.find_links:
            environment["UV_FIND_LINKS"] = self.find_links
        # `uv venv` takes packages from an index only with --seed.
        command = [program(), *arguments, *(["--no-index"] if self.index == "none" and arguments[0] != "venv" else [])]
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )


def _cause(messages: Sequence[str], code: int) -> str:
    start = next((index for index, line in enumerate(messages) if line.startswith(("error", "No solution"))), -_KEPT_LINES)
    return " ".join(messages[start:][:_KEPT_LINES]) or f"uv exited with code {code}"
