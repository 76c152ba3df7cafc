"""Plugins: implementations of a seam in other installed packages, found by entry points.

A seam is a package of FuseML with a table of implementations: probes, servings, git hosts, artifact stores, engines, workloads. The group of its entry
points has the package's name, and each entry point names a `Plugin`. Nothing is searched before a built-in table lacks a name. A plugin that
cannot be used is an error of its own name only. This module imports nothing of FuseML: a seam may be used where the rest is not installed.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from importlib import metadata

_log = logging.getLogger("fuseml.plugins")

Implementation = TypeVar("Implementation")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

_LONGEST = 300


@dataclass(frozen=True, slots=True)
class _Problem:
    """Stands for a plugin that cannot be used."""

    message: str


@dataclass(frozen=True, slots=True)
class Plugin(Generic[Implementation]):
    """The object that an entry point names: an implementation, and the version of the seam's contract that it keeps."""

    contract: int
    implementation: Implementation


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry point of a seam, and the package that has it. `problem` is empty for a plugin that can be used."""

    seam: str
    name: str
    package: str
    version: str
    object: str
    problem: str = ""


class Seam(Generic[Implementation]):
    """The plugins of one seam. `contract` is the version of its contract here.

    `built_in` are the names that no plugin replaces. `refusal` is the error for a plugin that cannot be used, `own` the errors that a plugin may
    raise itself. `accepts` decides about an implementation, of which `shape` is the description. The packages are searched once, at the first
    call.
    """

    def __init__(
        self,
        group: str,
        contract: int,
        built_in: Collection[str],
        *,
        refusal: Callable[[str], Exception],
        own: type[Exception],
        accepts: Callable[[object], bool] = callable,
        shape: str = "a callable",
    ) -> None:
        self.group, self.contract = group, contract
        self._built_in, self._accepts, self._shape = built_in, accepts, shape
        self._refusal, self._own = refusal, own
        # Entered again by a plugin whose import uses its own seam.
        self._lock = threading.RLock()
        self._loaded: dict[str, Implementation | _Problem] = {}
        self._logged: set[str] = set()

    def names(self) -> list[str]:
        """The names of the installed plugins, sorted. Loads none of them."""
        for name in sorted(self._installed.keys() & set(self._built_in)):
            self._warn(name, f"{self._described(name)} is ignored: {name!r} is built in")
        return sorted(self._installed.keys() - set(self._built_in))

    def get(self, name: str) -> Implementation | None:
        """The implementation of this name; None without one. Raises the refusal with the cause for a plugin that cannot be used."""
        if name in self._built_in or name not in self._installed:
            return None
        loaded = self._load(name)
        if isinstance(loaded, _Problem):
            raise self._refusal(loaded.message)
        return loaded

    def usable(self) -> list[tuple[str, Implementation]]:
        """The plugins that can be used, by name. The log has a warning about each other one, once."""
        found: list[tuple[str, Implementation]] = []
        for name in self.names():
            loaded = self._load(name)
            if isinstance(loaded, _Problem):
                self._warn(name, loaded.message)
            else:
                found.append((name, loaded))
        return found

    def call(self, name: str, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        """The result of a function of the plugin `name`. Raises its own errors, and the refusal in place of any other exception."""
        try:
            return function(*arguments, **named)
        except self._own:
            raise
        except Exception as error:
            raise self._refusal(f"{self._described(name)} failed: {_cause(error)}; repair or uninstall its package") from error

    def listed(self) -> list[Listed]:
        """All entry points of the group, loaded, each with its problem."""
        return [
            Listed(self.group, name, _package(point), point.dist.version if point.dist else "", point.value, self._problem(name))
            for name, points in sorted(self._installed.items())
            for point in points
        ]

    def _problem(self, name: str) -> str:
        if name in self._built_in:
            return f"{name!r} is built in, and no plugin replaces it; rename the entry point"
        loaded = self._load(name)
        return loaded.message if isinstance(loaded, _Problem) else ""

    @functools.cached_property
    def _installed(self) -> dict[str, list[metadata.EntryPoint]]:
        points: dict[str, list[metadata.EntryPoint]] = {}
        for point in _entry_points(self.group):
            points.setdefault(point.name, []).append(point)
        return points

    def _warn(self, name: str, message: str) -> None:
        if name not in self._logged:
            self._logged.add(name)
            _log.warning("%s", message)

    def _load(self, name: str) -> Implementation | _Problem:
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._checked(name)
            return self._loaded[name]

    def _checked(self, name: str) -> Implementation | _Problem:
        [point, *others] = self._installed[name]
        described = self._described(name)
        if others:
            return _Problem(f"{described} has the name of another plugin; uninstall all but one of them")
        try:
            plugin = point.load()
        # A module that ends the process at its import must not end this one.
        except (Exception, SystemExit) as error:
            return _Problem(f"{described} cannot be loaded: {_cause(error)}; repair or uninstall its package")
        if not isinstance(plugin, Plugin):
            return _Problem(f"{described} names a {type(plugin).__name__}, not a fuseml.plugins.Plugin; correct the package")
        if plugin.contract != self.contract:
            return _Problem(
                f"{described} is made for contract {plugin.contract} of {self.group}, and this FuseML has contract {self.contract}; "
                "install a version of the package for this FuseML"
            )
        if not self._accepts(plugin.implementation):
            kind = type(plugin.implementation).__name__
            return _Problem(f"the implementation of {described} is a {kind}, not {self._shape}; correct the package")
        return cast(Implementation, plugin.implementation)

    def _described(self, name: str) -> str:
        found = ", ".join(f"{_package(point)} ({point.value})" for point in self._installed[name])
        return f"the plugin {name!r} of {self.group} in the package {found}"


def _entry_points(group: str) -> Iterable[metadata.EntryPoint]:
    """As `metadata.entry_points` finds them: of two copies of a package the first one counts. A malformed file hides only its own package."""
    # Its import would be a part of every start.
    from importlib import metadata

    seen: set[str] = set()
    for package in metadata.distributions():
        try:
            # Most packages have none, and the file is read faster than the metadata.
            if group not in (package.read_text("entry_points.txt") or ""):
                continue
            name = package.metadata["Name"].lower().replace("_", "-")
            points = [] if name in seen else package.entry_points.select(group=group)
        except Exception as error:
            _log.warning("the entry points of an installed package cannot be read: %s", _cause(error))
            continue
        seen.add(name)
        yield from points


def _package(point: metadata.EntryPoint) -> str:
    return point.dist.name if point.dist else "of an unknown name"


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST]}"
