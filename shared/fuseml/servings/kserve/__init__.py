"""Applications as InferenceServices of KServe: one for each, in the mode Knative or Standard."""

from __future__ import annotations

from fuseml.servings.kserve.cluster import Cluster
from fuseml.servings.kserve.render import Settings
from fuseml.servings.kserve.serving import KServeServing

__all__ = ["Cluster", "KServeServing", "Settings"]
