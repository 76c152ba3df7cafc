"""Benchmarks: each prints its numbers next to a baseline that was measured in the same run."""
