"""A folder of small wheels, for builders without a network: packages of codesets, and stand-ins for those that FuseML adds."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

# MLflow brings PyYAML, and the model server's packages.
MODULES = {
    "tiny-ml": ("1.2.0", "tiny_ml", "ANSWER = 42\n", ()),
    "torch": ("1.2.0", "torch", "STAND_IN = True\n", ()),
    "mlflow": ("3.1.0", "mlflow", "STAND_IN = True\n", ("pyyaml",)),
    "pyyaml": ("6.0.3", "yaml", "STAND_IN = True\n", ()),
    "starlette": ("0.50.0", "starlette", "STAND_IN = True\n", ()),
    "uvicorn": ("0.40.0", "uvicorn", "STAND_IN = True\n", ()),
    "a2wsgi": ("1.10.0", "a2wsgi", "STAND_IN = True\n", ()),
}
"""Name -> version, module, its source, and requirements."""


def wheel(name: str, version: str = "", module: str = "", source: str = "", requires: tuple[str, ...] = ()) -> tuple[str, bytes]:
    """File name and content of a wheel with one module; without a version, one of `MODULES`."""
    if not version:
        version, module, source, requires = MODULES[name]
    stem = f"{name.replace('-', '_')}-{version}"
    info, content = f"{stem}.dist-info", io.BytesIO()
    needed = "".join(f"Requires-Dist: {line}\n" for line in requires)
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{module}.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"{stem}-py3-none-any.whl", content.getvalue()


def folder(path: Path, *names: str) -> Path:
    """A new folder with the wheels of these names, or of all of `MODULES`."""
    path.mkdir()
    for name in names or MODULES:
        file, content = wheel(name)
        (path / file).write_bytes(content)
    return path
