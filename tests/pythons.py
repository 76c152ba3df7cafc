"""The oldest supported Python, where the machine has one."""

from __future__ import annotations

import pathlib
import shutil

import pytest

_OF_PYENV = sorted(pathlib.Path.home().glob(".pyenv/versions/3.8*/bin/python3.8"))
# pyenv's versions first: its programs on the PATH run a version only where that one is chosen.
_FOUND = _OF_PYENV[0] if _OF_PYENV else shutil.which("python3.8")
OLDEST = pathlib.Path(_FOUND or "python3.8")
needs_oldest = pytest.mark.skipif(_FOUND is None, reason="needs Python 3.8, on the PATH or in pyenv")
