"""Packages with plugins, installed as their users install them, into a folder for the module search path."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import commands

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"


def install_example(folder: Path) -> Path:
    """Install the shipped package without a network; the folder with it."""
    # A build writes beside its sources.
    source, target = folder / "source", folder / "installed"
    shutil.copytree(EXAMPLE, source)
    options = [
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-build-isolation",
        "--no-config",
        "--python",
        sys.executable,
        "--target",
        str(target),
    ]
    commands.run([sys.executable, "-m", "uv", "pip", "install", *options, str(source)])
    return target


def package(folder: Path, name: str, entry_points: str, source: str = "", version: str = "1.0") -> None:
    """A package with one module of its name, as an installation leaves it."""
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)


@contextlib.contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """The packages of the folder are installed in this process. A seam that was searched before does not see them."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
