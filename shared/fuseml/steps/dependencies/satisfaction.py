"""Comparison of an environment that a codeset asks for with an installed one."""

from __future__ import annotations

from collections.abc import Callable

import packaging.requirements
import packaging.specifiers
import packaging.utils

from fuseml.steps.dependencies import requirements

Installed = Callable[[str], "tuple[str, list[str]] | None"]
"""Normalised name -> version and requirements of an installed distribution; None for one that is not installed."""


def unmet(environment: requirements.Environment, python: str, installed: Installed) -> list[str]:
    """A phrase for each unmet requirement of a running environment. `python` is its version, e.g. 3.11.9."""
    phrases = [f"'{line}' (it needs an environment of its own)" for line in environment.own()]
    if not packaging.specifiers.SpecifierSet(environment.python).contains(python, prereleases=True):
        phrases.append(f"Python {environment.python} (this is {python})")
    for line in (*environment.requirements, *environment.additions):
        phrases += _unmet(packaging.requirements.Requirement(requirements.bare(line)), installed, frozenset())
    for line in (*environment.constraints, *environment.pins):
        constraint = packaging.requirements.Requirement(requirements.bare(line))
        if installed(packaging.utils.canonicalize_name(constraint.name)) is not None:
            phrases += _unmet(constraint, installed, frozenset())
    return list(dict.fromkeys(phrases))


def _unmet(
    requirement: packaging.requirements.Requirement, installed: Installed, visited: frozenset[tuple[str, str]], extra: str = ""
) -> list[str]:
    """The phrases for one requirement and for the requirements of its extras."""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return []
    distribution = packaging.utils.canonicalize_name(requirement.name)
    present = installed(distribution)
    if present is None:
        return [f"{requirement} (not installed)"]
    version, own = present
    if requirement.url is not None:
        return [f"{requirement} (installed is {version} of unknown origin)"]
    if not requirement.specifier.contains(version, prereleases=True):
        return [f"{requirement} (installed is {version})"]
    phrases = []
    for name in sorted(requirement.extras):
        if (distribution, name) in visited:
            continue
        for line in own:
            part = packaging.requirements.Requirement(line)
            if part.marker is not None and not part.marker.evaluate({"extra": ""}):
                phrases += _unmet(part, installed, visited | {(distribution, name)}, name)
    return phrases
