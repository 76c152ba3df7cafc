"""Artifacts: their descriptors, their names, and the search for them. Their addresses are in `domain.artifact`."""
