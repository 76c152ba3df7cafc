"""Applications as Knative Services: one each, scaled to zero when nobody asks, a Knative revision for each of the application's."""

from __future__ import annotations

from fuseml.servings.knative.cluster import Cluster
from fuseml.servings.knative.render import Settings
from fuseml.servings.knative.serving import KnativeServing

__all__ = ["Cluster", "KnativeServing", "Settings"]
