"""The images of an installation: those of the manifests and the settings, as given by options, or from a mirror."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources

from fuseml.domain import images
from fuseml.domain.plans import combinations, image_building


@dataclass(frozen=True, slots=True)
class Images:
    """`given` maps images of the manifests to those of options; all others come from the `mirror`, if any."""

    given: Mapping[str, str] = field(default_factory=dict)
    mirror: str = ""

    def of(self, name: str) -> str:
        """The image that takes the place of this one."""
        return self.given.get(name) or images.mirrored(name, self.mirror)


_OTHER_STEPS = (
    "ghcr.io/fuseml/evaluator:v1",
    "ghcr.io/fuseml/trainer:v1",
    "ghcr.io/fuseml/workload:v1",
    combinations.RANKER,
    image_building.BUILDER,
)
"""Built-in steps that workflows may name or plans add, and that no shipped workflow names."""


def of_workflows() -> set[str]:
    """The images of the shipped workflows and of the other built-in steps."""
    folder = resources.files("fuseml.examples") / "workflows"
    texts = [file.read_text() for file in folder.iterdir() if file.name.endswith(".yaml")]
    return {*_OTHER_STEPS, *(name for text in texts for name in re.findall(r"^ *image: ([\w./:-]+)$", text, re.MULTILINE))}


def table(names: Iterable[str], mirror: str) -> str:
    """The images, one a line, each with its name in the mirror, if there is one: input for a tool that copies images."""
    return "".join(f"{name} {images.mirrored(name, mirror)}".rstrip() + "\n" if mirror else f"{name}\n" for name in sorted(set(names)))
