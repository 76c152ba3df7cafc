"""The files that a step may use where the kernel confines it: its own folders, its programs, the system, and the paths of `--allow-path`.

Everything else is out of its reach: keys, tokens and database of the server, other runs, the home of the user, folders for temporary files.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuseml import version
from fuseml.domain import errors
from fuseml.processes import landlock
from fuseml.processes.landlock import Grant

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/sys", "/proc"),
    # Programs of other package managers, and what the files of /etc lead to.
    *("/nix", "/gnu", "/snap", "/home/linuxbrew/.linuxbrew", "/run/current-system", "/run/opengl-driver", "/run/systemd/resolve"),
    *("/var/lib/ca-certificates", "/var/cache/fontconfig"),
)
_LINKS = ("/etc/resolv.conf", "/etc/localtime", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
# Services that resolve names of hosts and users, and the daemon that keeps drivers of NVIDIA loaded.
_SOCKETS = ("/run/nscd", "/run/systemd/resolve", "/run/systemd/userdb", "/run/nvidia-persistenced")
_DEVICES = ("null", "zero", "full", "random", "urandom", "ptmx")
_ACCELERATORS = (
    *("nvidia*", "dri", "kfd", "accel*", "dxg", "habanalabs*", "neuron*", "davinci*", "hisi_hdc", "devmm_svm", "infiniband", "vfio"),
    *("xpu*", "mem_sync*", "apex_*"),
)
# Multiprocessing keeps semaphores there, and libraries their shared arrays.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108
# Python, and programs of C: the reason before the path, and after it.
_PATH_AFTER = re.compile(r"(?:Permission denied|Errno 13|EACCES|Read-only)[^\n/]{0,80}?(/[^\s'\":;,)]{1,400})")
_PATH_BEFORE = re.compile(r"['\"]?: Permission denied")
_LONGEST_PATH = 400
_ENDS_OF_PATHS = re.compile(r"[\s'\":;,)]")


def _path_of_error(text: str) -> str:
    """The first path that an error in the text names; empty without one."""
    if after := _PATH_AFTER.search(text):
        return after[1].rstrip(".")
    if before := _PATH_BEFORE.search(text):
        word = _ENDS_OF_PATHS.split(text[max(0, before.start() - _LONGEST_PATH) : before.start()])[-1]
        return word[word.find("/") :].rstrip(".") if "/" in word else ""
    return ""


@dataclass(frozen=True, slots=True)
class AllowedPath:
    """A path outside of a run that every step may read, or also write."""

    path: Path
    writable: bool = False

    @staticmethod
    def parse(text: str) -> AllowedPath:
        """Read `PATH` or `PATH:rw`. Raises InvalidError for a path that is not absolute or does not exist."""
        writable = text.endswith(":rw")
        path = Path(text.removesuffix(":rw").removesuffix(":ro")).expanduser()
        if not path.is_absolute() or not path.exists():
            problem = "does not exist" if path.is_absolute() else "is not absolute"
            raise errors.InvalidError(
                f"the path for steps {text!r} {problem}; give an absolute path, followed by ':rw' if steps may write to it"
            )
        return AllowedPath(path, writable)


@dataclass(frozen=True, slots=True)
class Confinement:
    """`abi` of Landlock, 0 where steps are not confined; the `grants` that all steps have; the `protected` folders of the server; the files of
    the `devices` that it hands out.
    """

    abi: int = 0
    grants: Sequence[Grant] = ()
    protected: Sequence[str] = ()
    devices: Sequence[str] = ()

    def of_step(self, read: Iterable[Path], write: Iterable[Path], devices: Iterable[str] = ()) -> list[Grant]:
        """The grants of a step that also reads the files below `read`, owns the folders `write`, and holds the files of `devices`."""
        if not self.abi:
            return []
        own = [*((str(path), landlock.READ) for path in read), *((str(path), landlock.WRITE) for path in write)]
        return [*self.grants, *own, *((path, landlock.DEVICE) for path in devices)]

    def hint(self, text: str, own: Iterable[Path]) -> str:
        """Advice for a failed step whose last lines `text` name a path that it may not use; empty without one. `own` are its folders."""
        path = _path_of_error(text) if self.abi else ""
        if not path or any(_is_below(path, str(folder)) for folder in own):
            return ""
        if any(_is_below(path, folder) for folder in self.protected):
            return f"a step cannot use {path}, which belongs to the server"
        if any(_is_below(path, file) for file in self.devices):
            return f"a step can use {path} only while it holds the device: ask for one by its limits, such as nvidia.com/gpu: 1"
        rights = [access for granted, access in self.grants if _is_below(path, granted)]
        if any(access & landlock.WRITE_FILE for access in rights):
            return ""
        if not rights and (_is_below(path, "/tmp") or _is_below(path, "/var/tmp")):  # noqa: S108 - compared
            return f"a step cannot use {path}: use the folder $TMPDIR, which ends with the step"
        suffix = ":rw" if rights else ""
        return f"a step cannot {'write to' if rights else 'use'} {path}: let all steps do so with `fuseml up --allow-path {_folder(path)}{suffix}`"


def make(
    abi: int,
    *,
    environment: Mapping[str, str],
    protected: Sequence[Path],
    allowed: Sequence[AllowedPath] = (),
    devices: Sequence[str] = (),
) -> Confinement:
    """The confinement of steps with the host's `environment`. Nothing in the folders `protected` is granted, wherever they are, and of the
    files of `devices` only those of a step's own ones.
    """
    if not abi:
        return Confinement()
    homes = [path for path in (environment.get("HOME", ""), os.path.expanduser("~")) if path.strip("/")]  # noqa: PTH111
    closed = [os.path.realpath(path) for path in protected]
    private = [*closed, *(os.path.realpath(home) for home in homes)]
    grants: list[Grant] = []
    for path in (*_SYSTEM, *(os.path.realpath(link) for link in _LINKS)):
        grants += ((part, landlock.READ) for part in carve(path, private))
    for path in (*_prefixes(), *_programs(environment, private)):
        grants += ((part, landlock.READ) for part in carve(path, closed))
    for item in allowed:
        access = landlock.WRITE if item.writable else landlock.READ
        grants += ((part, access) for part in carve(str(item.path), closed))
    grants += ((path, landlock.READ | landlock.CONNECT) for path in _SOCKETS)
    grants += ((f"/dev/{name}", landlock.DEVICE) for name in _DEVICES)
    withheld = [os.path.realpath(path) for path in devices]
    for path in (str(path) for pattern in _ACCELERATORS for path in Path("/dev").glob(pattern)):
        grants += ((part, landlock.DEVICE) for part in carve(path, withheld))
    grants.append((_SHARED_MEMORY, landlock.WRITE))
    return Confinement(abi, tuple(dict.fromkeys(grants)), tuple(closed), tuple(devices))


def carve(path: str, protected: Sequence[str]) -> list[str]:
    """The paths that together are `path` without the folders `protected`. Landlock has no rule that denies."""
    real = os.path.realpath(path)
    if any(_is_below(real, folder) for folder in protected):
        return []
    if not any(_is_below(folder, real) for folder in protected):
        return [real]
    try:
        children = sorted(os.listdir(real))  # noqa: PTH208
    except OSError:
        return []
    return [part for child in children for part in carve(f"{real.rstrip('/')}/{child}", protected)]


def _prefixes() -> list[str]:
    """The folders of this Python, of its packages, and of FuseML."""
    interpreter = Path(os.path.realpath(sys.executable))
    return [sys.prefix, sys.base_prefix, sys.exec_prefix, str(interpreter.parents[1]), str(Path(version.__file__).parents[1])]


def _programs(environment: Mapping[str, str], private: Sequence[str]) -> Iterable[str]:
    """The folders of programs on the PATH and of libraries, each with the installation that it belongs to."""
    for name in ("PATH", "LD_LIBRARY_PATH"):
        for text in environment.get(name, "").split(os.pathsep):
            folder = Path(text)
            if not folder.is_absolute() or _holds(str(folder), private):
                continue
            yield str(folder)
            above = folder.parent
            if _is_installation(above, folder.name) and not _holds(str(above), private):
                yield str(above)


def _is_installation(above: Path, name: str) -> bool:
    """Whether `above` is an environment of Python, or the folder of a version manager, whose programs are in its folder `name`."""
    if name == "bin":
        return (above / "pyvenv.cfg").exists() or (above / "conda-meta").exists()
    return name == "shims" and any((above / part).exists() for part in ("versions", "installs", "libexec"))


def _holds(folder: str, private: Sequence[str]) -> bool:
    """Whether the folder is, or contains, a private one."""
    real = os.path.realpath(folder)
    return any(_is_below(path, real) for path in private)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _folder(path: str) -> str:
    return path if Path(path).is_dir() else str(Path(path).parent)
