"""GTO's git tags: `NAME@v1.2.3` is a version of an artifact, `NAME#stage` its stage; `!` takes either back, and `NAME@deprecated` all.

A name in a tag spells `:` as `=`. Numbered stages (`NAME#prod#7`) are ordered by their number; others stand for the present.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_NAME = r"(?:[a-z0-9_./-]+=)?[a-z0-9](?:[a-z0-9/-]*[a-z0-9])?"
_SEMVER = r"v(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_TAG = re.compile(
    rf"(?P<name>{_NAME})(?:#(?P<stage>[a-z0-9](?:[a-z0-9/-]*[a-z0-9])?)|@(?P<version>{_SEMVER}|deprecated|created))"
    r"(?P<cancel>!?)(?:#(?P<number>\d+))?"
)


def labels(tags: Mapping[str, str], name: str) -> dict[str, str]:
    """Version or stage -> commit of an artifact, by the tags of its repository (tag -> commit)."""
    found: dict[str, str] = {}
    latest: dict[str, tuple[int, bool, str]] = {}
    for tag, commit in tags.items():
        match = _TAG.fullmatch(tag)
        if match is None or match["name"].replace("=", ":") != name:
            continue
        label = match["stage"] or match["version"]
        entry = (int(match["number"] or 0), bool(match["cancel"]), commit)
        # A cancellation of the same number comes after the stage or version that it cancels.
        if label not in latest or entry[:2] > latest[label][:2]:
            latest[label] = entry
    for label, (_, cancelled, commit) in latest.items():
        if not cancelled and label != "created":
            found[label] = commit
    return {} if "deprecated" in found else found
