"""Runnables, the reusable steps of workflows: HTTP `/runnables`. Publishes `artifact.recorded`, `artifact.deleted`.

A version is immutable, and is also an artifact. Built-in runnables belong to every project. Depends on the store and a publisher.
"""
