"""The bases of the stages of a Dockerfile, and the arguments that they may use. Pure."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Mapping

from fuseml.steps import layers, sdk
from fuseml.steps.dockerfiles.syntax import Dockerfile, Instruction, UnsupportedError, expand, words

SCRATCH = "scratch"
"""The name of the empty base."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def base(dockerfile: Dockerfile) -> str:
    """The name of the base. Raises StepError for one that is empty, UnsupportedError for another platform than this one."""
    given = before(dockerfile)
    item = next(item for item in dockerfile.instructions if item.keyword == "FROM")
    wanted = expand(item.flags.get("platform", ""), given, dockerfile.escape)
    if wanted not in ("", given["TARGETPLATFORM"]):
        raise UnsupportedError(f"{item} has the platform {wanted}, and this one is {given['TARGETPLATFORM']}")
    return _named(item, given, dockerfile.escape)[0]


def bases(dockerfile: Dockerfile) -> list[str]:
    """The names of the bases of all stages that are images of a registry. Raises as `base` does."""
    given = before(dockerfile)
    found: list[str] = []
    stages = {SCRATCH}
    for item in dockerfile.instructions:
        if item.keyword == "FROM":
            name, stage = _named(item, given, dockerfile.escape)
            found += [name] if name.lower() not in stages else []
            stages.add(stage.lower())
    return found


def before(dockerfile: Dockerfile) -> dict[str, str]:
    """The arguments that FROM may use: those before the first one."""
    given = dict(_platform())
    for item in dockerfile.instructions:
        if item.keyword == "FROM":
            break
        given |= arguments(item, given, dockerfile.escape)
    return given


def _named(item: Instruction, given: Mapping[str, str], escape: str) -> tuple[str, str]:
    """The base of a stage, and the name of the stage, which may be empty."""
    found = words(item.text, escape)
    name = expand(found[0], given, escape)
    if not name or not (len(found) == 1 or (len(found) == 3 and found[1].lower() == "as")):
        raise sdk.StepError(f"{item}: '{item.text[:100]}' is no base; write FROM IMAGE")
    return name, found[2] if len(found) == 3 else ""


def _platform() -> Iterator[tuple[str, str]]:
    """The arguments that every build has."""
    architecture = layers.architecture(platform.machine())
    for name in ("TARGET", "BUILD"):
        yield f"{name}PLATFORM", f"linux/{architecture}"
        yield f"{name}OS", "linux"
        yield f"{name}ARCH", architecture
        yield f"{name}VARIANT", ""


def arguments(item: Instruction, known: Mapping[str, str], escape: str) -> dict[str, str]:
    """The arguments of ARG with their defaults; those of an argument without one stay."""
    found: dict[str, str] = {}
    for word in words(item.text, escape):
        name, equals, value = word.partition("=")
        if not _NAME.fullmatch(name):
            raise sdk.StepError(f"{item}: '{name[:40]}' is no name of an argument")
        if equals:
            found[name] = expand(value, {**known, **found}, escape)
    return found
