"""Commands in tests: run to their end, with their output in the failure when the exit code is not the expected one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from tests.waiting import PATIENCE

FUSEML = (sys.executable, "-m", "fuseml.cli.main")
"""The command line of FuseML."""


class Options(TypedDict, total=False):
    """`code` is the expected exit code, 0 by default; None allows any. `text` is the standard input, `patience` the bound in seconds."""

    code: int | None
    environment: Mapping[str, str]
    cwd: str | Path | None
    text: str
    patience: float


def run(command: Sequence[str | Path], **options: Unpack[Options]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Fails when it ends with an unexpected exit code, or not in time."""
    code, patience = options.get("code", 0), options.get("patience", PATIENCE)
    try:
        done = subprocess.run(
            command,
            env=options.get("environment"),
            cwd=options.get("cwd"),
            input=options.get("text", ""),
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{command} did not end within {patience:g} s\n{error.stdout!r}\n{error.stderr!r}") from None
    assert code is None or done.returncode == code, shown(done)
    return done


def python(script: str, *arguments: str | Path, **options: Unpack[Options]) -> subprocess.CompletedProcess[str]:
    """Run a Python program with the interpreter of the tests."""
    return run([sys.executable, "-c", script, *arguments], **options)


def fuseml(*arguments: str | Path, **options: Unpack[Options]) -> subprocess.CompletedProcess[str]:
    """Run the command line of FuseML."""
    return run([*FUSEML, *arguments], **options)


def shown(done: subprocess.CompletedProcess[str]) -> str:
    """A command that has ended, with its output, for the message of an assertion."""
    return f"{done.args} ended with exit code {done.returncode}\n--- stdout ---\n{done.stdout}\n--- stderr ---\n{done.stderr}"
