"""Addresses of models on a tracking server: exact ones, which always name the same files, and ones that can move."""

from __future__ import annotations

import re
from dataclasses import dataclass

_EXACT = re.compile(r"models:/(?:[^/@]+/\d+|m-[0-9a-f]+)")
_OF_RUN = re.compile(r"runs:/([^/]+)/(.+)")
_ALIAS = re.compile(r"models:/([^/@]+)@([^/@]+)")
_STAGE = re.compile(r"models:/([^/@]+)/([^/@]+)")


@dataclass(frozen=True, slots=True)
class Alias:
    """`models:/<model>@<alias>`."""

    model: str
    alias: str


@dataclass(frozen=True, slots=True)
class Newest:
    """`models:/<model>/latest`, or `models:/<model>/<stage>`: the newest version of a model, or of those in a stage."""

    model: str
    stage: str = ""


@dataclass(frozen=True, slots=True)
class OfRun:
    """`runs:/<id>/<name>`: the newest model that a run of the tracking server logged as `name`."""

    run: str
    name: str


Moving = Alias | Newest | OfRun


def moving(text: str) -> Moving | None:
    """The meaning of an address that the tracking server can resolve; None for an exact one, and for one of another store."""
    if _EXACT.fullmatch(text):
        return None
    if match := _OF_RUN.fullmatch(text):
        return OfRun(match[1], match[2])
    if match := _ALIAS.fullmatch(text):
        return Alias(match[1], match[2])
    if match := _STAGE.fullmatch(text):
        return Newest(match[1], "" if match[2].lower() == "latest" else match[2])
    return None


def is_exact(text: str) -> bool:
    """Whether the address is that of a version or of a logged model."""
    return _EXACT.fullmatch(text) is not None
