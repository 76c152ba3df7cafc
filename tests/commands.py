"""Commands in tests. An unexpected exit code fails the test, with the output of the command."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack
from unittest import mock

from tests.waiting import PATIENCE

FUSEML = (sys.executable, "-m", "fuseml.cli.main")
"""The first arguments of every `fuseml` command."""


class Options(TypedDict, total=False):
    """`code` is the expected exit code, 0 by default; None allows any. `text` is the standard input, empty by default; `patience` is the bound
    in seconds."""

    code: int | None
    cwd: str | Path | None
    text: str
    patience: float


def run(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None, **options: Unpack[Options]
) -> subprocess.CompletedProcess[str]:
    """Run a command and wait for its end. Fails if the exit code is unexpected or the bound is exceeded."""
    code, patience = options.get("code", 0), options.get("patience", PATIENCE)
    try:
        process = subprocess.run(
            command,
            env=environment,
            cwd=options.get("cwd"),
            input=options.get("text", ""),
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"{command} did not end within {patience:g} s\n{error.stdout!r}\n{error.stderr!r}") from None
    assert code is None or process.returncode == code, describe(process)
    return process


def python(
    script: str, *arguments: str | Path, environment: Mapping[str, str] | None = None, **options: Unpack[Options]
) -> subprocess.CompletedProcess[str]:
    """Run a Python script with the interpreter of the tests; see `run`."""
    return run([sys.executable, "-c", script, *arguments], environment, **options)


def fuseml(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, **options: Unpack[Options]
) -> subprocess.CompletedProcess[str]:
    """Run a `fuseml` command; see `run`."""
    return run([*FUSEML, *arguments], environment, **options)


def fuseml_here(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, **options: Unpack[Options]
) -> subprocess.CompletedProcess[str]:
    """As `fuseml`, in this process: hundreds of commands without hundreds of starts. Not for commands that end by a signal; no bound of time."""
    from fuseml.cli import main

    code, variables = options.get("code", 0), dict(environment or {})
    stdout, stderr, former = io.StringIO(), io.StringIO(), sys.stdin
    with (
        contextlib.chdir(options.get("cwd") or "."),
        mock.patch.dict(os.environ, variables, clear=True),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        sys.stdin = io.StringIO(options.get("text", ""))
        try:
            ended = main.run([str(item) for item in arguments], variables)
        finally:
            sys.stdin = former
    process = subprocess.CompletedProcess([*FUSEML, *map(str, arguments)], ended, stdout.getvalue(), stderr.getvalue())
    assert code is None or process.returncode == code, describe(process)
    return process


def describe(process: subprocess.CompletedProcess[str]) -> str:
    """The command, its exit code and its output, for the message of an assertion."""
    return f"{process.args} ended with exit code {process.returncode}\n--- stdout ---\n{process.stdout}\n--- stderr ---\n{process.stderr}"
