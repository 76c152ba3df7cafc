"""The search for devices of this machine, by the files of their drivers."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fuseml.engines.local.devices import AMD, NVIDIA, Pool

_LOG = logging.getLogger(__name__)

_SMI_TIMEOUT = 20.0
_SMI_LINE = re.compile(r"GPU (\d+): .*?\(UUID: (GPU-[0-9A-Za-z-]+)\)")
_INFORMATION = re.compile(r"^(GPU UUID|Device Minor):[ \t]*(\S+)", re.MULTILINE)
_NAMED = ("GPU-", "MIG-")
_OF_WINDOWS = "usr/lib/wsl/lib"
"""The folder of the driver's programs in Windows' subsystem for Linux. A service has no PATH to it."""
_NUMBERED = re.compile(r"nvidia(\d+)")
_PROPERTY = re.compile(r"^(simd_count|drm_render_minor) (\d+)$", re.MULTILINE)


def find(environment: Mapping[str, str], root: Path = Path("/")) -> dict[str, Pool]:
    """The devices of each resource that this machine has. The visible devices of the server's own `environment` are all of them."""
    pools = {NVIDIA: _nvidia(environment, root), AMD: _amd(root)}
    visible = {
        NVIDIA: environment.get("CUDA_VISIBLE_DEVICES"),
        AMD: environment.get("ROCR_VISIBLE_DEVICES", environment.get("HIP_VISIBLE_DEVICES")),
    }
    return {resource: _restricted(pool, visible[resource]) for resource, pool in pools.items() if pool.ids}


def _restricted(pool: Pool, visible: str | None) -> Pool:
    """The pool with the devices that a variable lists, up to the first that does not exist, as CUDA reads it."""
    if visible is None:
        return pool
    ids: list[str] = []
    for id in (part.strip() for part in visible.split(",")):
        if id in ids or (id not in pool.ids and not id.startswith(_NAMED)):
            break
        ids.append(id)
    return Pool(tuple(ids), pool.common, pool.own)


def _nvidia(environment: Mapping[str, str], root: Path) -> Pool:
    files = sorted(path for path in (root / "dev").glob("nvidia*"))
    numbered = {match[1]: str(path) for path in files if (match := _NUMBERED.fullmatch(path.name))}
    common = [str(path) for path in (*files, root / "dev/dxg") if str(path) not in numbered.values() and path.exists()]
    ids: list[str] = []
    own: dict[str, str] = {}
    # In the order of the bus, which is that of nvidia-smi.
    for number, folder in enumerate(sorted((root / "proc/driver/nvidia/gpus").glob("*"))):
        facts = dict(_INFORMATION.findall(_text(folder / "information")))
        ids.append(str(number))
        path = numbered.get(facts.get("Device Minor", str(number)))
        if path:
            own[str(number)] = path
            # The driver shows question marks until the device is used for the first time.
            if "?" not in facts.get("GPU UUID", "?"):
                own[facts["GPU UUID"]] = path
    # Without a file of the driver there is no device, and the program would only cost time.
    if not ids and (common or numbered):
        ids = _listed_by_driver(environment, root) or sorted(numbered, key=int)
        own = {number: path for number, path in numbered.items() if number in ids}
    return Pool(tuple(ids), tuple(common), own)


def _listed_by_driver(environment: Mapping[str, str], root: Path) -> list[str]:
    """The numbers that `nvidia-smi` lists: Windows' subsystem for Linux has no other list."""
    program = shutil.which("nvidia-smi", path=os.pathsep.join(filter(None, [environment.get("PATH"), str(root / _OF_WINDOWS)])))
    if program is None:
        return []
    try:
        result = subprocess.run(
            [program, "-L"],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SMI_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        _LOG.warning("the devices of NVIDIA are not known, because nvidia-smi failed: %s", error)
        return []
    return [match[1] for match in _SMI_LINE.finditer(result.stdout)] if result.returncode == 0 else []


def _amd(root: Path) -> Pool:
    driver = root / "dev/kfd"
    if not driver.exists():
        return Pool()
    own: dict[str, str] = {}
    nodes = [path for path in (root / "sys/class/kfd/kfd/topology/nodes").glob("*") if path.name.isdigit()]
    for node in sorted(nodes, key=lambda path: int(path.name)):
        facts = {name: int(value) for name, value in _PROPERTY.findall(_text(node / "properties"))}
        # Processors are nodes, too.
        if facts.get("simd_count"):
            own[str(len(own))] = str(root / f"dev/dri/renderD{facts.get('drm_render_minor', 128 + len(own))}")
    return Pool(tuple(own), (str(driver),), own)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        _LOG.warning("a device is not known in full, because %s cannot be read: %s", path, error)
        return ""
