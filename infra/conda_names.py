"""`task conda-names`: writes the table of conda packages on the Python package index, `steps/dependencies/conda_names.txt`.

The table is conda-forge's mapping, as the package `conda-pypi` (MIT licence) ships it. It holds the names only.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Iterable, Mapping

from fuseml.steps.dependencies import conda_names

SOURCE = "conda-pypi==0.13.1"
TABLE = pathlib.Path(conda_names.__file__).with_name("conda_names.txt")
_HEADER = f"""\
# conda-forge's mapping of names of conda packages to the Python package index, from {SOURCE}; `task conda-names` writes this file.
# A word is a name that both have, or CONDA=INDEX.
"""
# Parts of download addresses that the mapping takes for names.
_NO_NAME = re.compile(r"[0-9a-f]{40,}")


def table(entries: Iterable[Mapping[str, str]]) -> str:
    """The text of the table for entries with `conda_name`, `pypi_name` and `mapping_source`; a `static` entry was written by hand and wins."""
    chosen: dict[str, tuple[bool, bool, str]] = {}
    for entry in entries:
        conda, index = entry["conda_name"].lower(), _normal(entry["pypi_name"])
        rank = (entry["mapping_source"] != "static", index != _normal(conda), index)
        if not _NO_NAME.fullmatch(index) and (conda not in chosen or rank < chosen[conda]):
            chosen[conda] = rank
    words = (conda if _normal(conda) == index else f"{conda}={index}" for conda, (*_, index) in sorted(chosen.items()))
    return _HEADER + "".join(f"{line}\n" for line in textwrap.wrap(" ".join(words), 148, break_long_words=False, break_on_hyphens=False))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Install the source into a temporary folder, and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["uv", "pip", "install", "--quiet", "--no-config", "--no-deps", "--target", folder, SOURCE], check=True)
        mapping = json.loads((pathlib.Path(folder) / "conda_pypi" / "grayskull_pypi_mapping.json").read_text())
    TABLE.write_text(table(mapping.values()))


if __name__ == "__main__":
    main()
