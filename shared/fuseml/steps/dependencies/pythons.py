"""Python versions of environments. The oldest is 3.8, the oldest that the supported versions of MLflow run on."""

from __future__ import annotations

import re

import packaging.specifiers

from fuseml.steps import sdk

OLDEST = (3, 8)
_MINORS, _PATCHES = range(OLDEST[1], 40), (0, 7, 30)


def specifier(version: str, key: str) -> str:
    """The specifier of a version: `3.11` matches any 3.11, `3.11.4` that release. Raises StepError, naming `key`, for one before 3.8."""
    text = version.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        text = f"=={text}.*"
    elif re.fullmatch(r"\d+\.\d+\.(\d+|\*)", text):
        text = f"=={text}"
    try:
        wanted = packaging.specifiers.SpecifierSet(text)
    except packaging.specifiers.InvalidSpecifier:
        raise sdk.StepError(f"{key}: '{version}' is not a Python version; write one such as \"3.11\"") from None
    if not _possible(wanted):
        raise sdk.StepError(
            f"{key}: Python {version.strip()} is not supported: steps and MLflow need Python 3.8 or newer; "
            "name a newer version here, and train again"
        )
    return str(wanted)


def _possible(wanted: packaging.specifiers.SpecifierSet) -> bool:
    named = [match for match in (re.match(r"3\.(\d+)", item.version) for item in wanted) if match]
    exact = {item.version.removesuffix(".*") for item in wanted if re.fullmatch(r"3\.\d+\.\d+", item.version)}
    minors = {*_MINORS, *(int(match[1]) for match in named)}
    candidates = {f"3.{minor}.{patch}" for minor in minors for patch in _PATCHES} | exact
    return any(wanted.contains(one, prereleases=True) for one in candidates if int(one.split(".")[1]) >= OLDEST[1])


def series(specifier: str) -> str:
    """The specifier of all releases of a minor version, if `specifier` names exactly one release, such as `==3.11.4`; else empty."""
    match = re.fullmatch(r"==(\d+\.\d+)\.\d+", specifier)
    return f"=={match[1]}.*" if match else ""


def of_version_file(text: str) -> str:
    """The version in a `.python-version` file; empty for a name that is no version, such as that of a pyenv environment."""
    for line in text.splitlines():
        word = line.partition("#")[0].strip().removeprefix("cpython-").removeprefix("cpython@")
        if word:
            return word if re.fullmatch(r"3(\.\d+){0,2}", word) else ""
    return ""
