"""Pipelines: workflows that are made of runnables, by composition or from templates."""
