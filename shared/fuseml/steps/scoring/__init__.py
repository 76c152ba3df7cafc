"""Datasets and metrics of the steps `scorer` and `evaluator`: places, formats, columns of a model, metrics and thresholds."""
