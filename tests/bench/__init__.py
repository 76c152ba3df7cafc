"""Benchmarks. Each prints its results next to a baseline of the same run."""
