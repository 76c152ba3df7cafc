"""Lineage of runs: the record of a run, and its forms: OpenLineage events, SLSA provenance, the difference of two runs."""
