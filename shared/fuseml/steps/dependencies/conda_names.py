"""Names of conda packages on the Python package index.

Sources: `conda_names.txt` holds conda-forge's own mapping, which its bot derives from recipes whose source is the index (`task conda-names`
writes it from the package `conda-pypi`). `conda_added.txt` adds packages whose recipes take their source elsewhere, such as a git host, and
packages that are no Python packages. A name in neither has no known counterpart: on the index it may belong to another project.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path

# Mutex packages, libraries of C, parts of CUDA and of the compiler, and packages of R.
_NO_PYTHON_NAMES = re.compile(r"_|lib|cuda(-|$)|r-|xorg-|font|gcc_|gxx_|gfortran_|sysroot_|m2w64-|magma-cuda|msys2-|perl-|binutils_")


def counterpart(name: str) -> str | None:
    """The requirement name on the index of a conda package; empty for one that is no Python package, None for an unknown one."""
    known = _table("conda_added").get(name, _table("conda_names").get(name))
    return "" if known is None and _NO_PYTHON_NAMES.match(name) else known


@functools.cache
def _table(name: str) -> dict[str, str]:
    return parsed(Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8"))


def parsed(text: str) -> dict[str, str]:
    """The mapping of a table: words `CONDA=INDEX`, or one name for both; lines that begin with `#` are comments."""
    words = [word for line in text.splitlines() if not line.startswith("#") for word in line.split()]
    return {conda: index if sign else conda for conda, sign, index in (word.partition("=") for word in words)}
