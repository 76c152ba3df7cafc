"""Applications as SeldonDeployments of Seldon Core 1: one for each, served by a prepackaged server."""

from __future__ import annotations

from fuseml.servings.seldon.cluster import Cluster
from fuseml.servings.seldon.render import Settings
from fuseml.servings.seldon.serving import SeldonServing

__all__ = ["Cluster", "SeldonServing", "Settings"]
