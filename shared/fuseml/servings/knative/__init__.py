"""Applications as Knative Services: one for each, scaled to zero when idle, with a Knative revision for each of its revisions."""

from __future__ import annotations

from fuseml.servings.knative.cluster import Cluster
from fuseml.servings.knative.render import Settings
from fuseml.servings.knative.serving import KnativeServing

__all__ = ["Cluster", "KnativeServing", "Settings"]
