"""Landlock: a process gives up its own rights to files, sockets and signals, for itself and all its descendants, for ever.

Kernels differ in the rights that they know (the ABI). What a kernel does not know, it does not restrict. Standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = (1 << bit for bit in range(4))
REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(4, 13))
REFER, TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = (1 << bit for bit in range(13, 17))

READ = EXECUTE | READ_FILE | READ_DIR
WRITE = (
    READ | WRITE_FILE | TRUNCATE | REFER | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | RESOLVE_UNIX
)
DEVICE = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV
CONNECT = RESOLVE_UNIX
"""The right to connect to the sockets of a folder."""

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX
# Each ABI adds rights: 2 REFER, 3 TRUNCATE, 5 IOCTL_DEV, 9 RESOLVE_UNIX; 6 adds the scopes of abstract sockets and signals.
_HANDLED = ((9, 17), (5, 16), (3, 15), (2, 14), (1, 13))
_SCOPES = 0b11
LOWEST = 2
"""ABI 1 forbids every rename from one folder to another, without which package managers and git do not work."""

# The three calls are numbered one after the other, in general from 444 on.
_FIRST_CALL = {"alpha": 554, "mips": 4444, "mips64": 5444}
_FAMILIAR = ("x86_64", "aarch64", "arm", "i386", "i486", "i586", "i686", "ppc", "riscv", "s390", "loongarch", "sparc", "parisc")
_VERSION = 1
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES = 38

Grant = tuple[str, int]
"""A path and the rights to it and to everything below it."""


def handled(abi: int) -> int:
    """The rights to files that the ABI restricts."""
    return (1 << next((count for since, count in _HANDLED if abi >= since), 0)) - 1


def scopes(abi: int) -> int:
    """The scopes that the ABI restricts: neither abstract sockets nor processes outside of the confined ones can be reached."""
    return _SCOPES if abi >= 6 else 0


def first_call(machine: str) -> int | None:
    """The number of the first of the three system calls on a machine (`uname -m`); None on an unfamiliar one."""
    if machine in _FIRST_CALL:
        return _FIRST_CALL[machine]
    return 444 if machine.startswith(_FAMILIAR) else None


def abi() -> int:
    """The ABI of this kernel; 0 if it cannot confine: another system, a kernel without Landlock or with a too old one."""
    number = first_call(os.uname().machine) if sys.platform == "linux" else None
    if number is None:
        return 0
    found = int(_libc().syscall(ctypes.c_long(number), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))
    return found if found >= LOWEST else 0


def confine(grants: Iterable[Grant], version: int) -> None:
    """Restrict this process to `grants`, as far as the ABI `version` does. A path that does not exist is left out. Raises OSError."""
    number = first_call(os.uname().machine)
    if version < LOWEST or number is None:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock")
    rights, libc = handled(version), _libc()
    attributes = struct.pack("=QQQ", rights, 0, scopes(version))
    ruleset = _checked(libc.syscall(ctypes.c_long(number), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)))
    try:
        for path, access in grants:
            _add(libc, number + 1, ruleset, path, access & rights)
        _checked(libc.prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)))
        _checked(libc.syscall(ctypes.c_long(number + 2), ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _add(libc: ctypes.CDLL, number: int, ruleset: int, path: str, access: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_FILES
        if access:
            rule = struct.pack("=Qi", access, descriptor)
            arguments = (ctypes.c_long(number), ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0))
            _checked(libc.syscall(*arguments))
    finally:
        os.close(descriptor)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
