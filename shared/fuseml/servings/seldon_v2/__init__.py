"""Applications on Seldon Core 2: a Model for each served revision, and an Experiment that splits the requests among them."""

from __future__ import annotations

from fuseml.servings.seldon_v2.cluster import Cluster
from fuseml.servings.seldon_v2.render import Settings
from fuseml.servings.seldon_v2.serving import SeldonV2Serving

__all__ = ["Cluster", "SeldonV2Serving", "Settings"]
