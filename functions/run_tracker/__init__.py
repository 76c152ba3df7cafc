"""Keeps the state of runs: Tekton's own events (or the local engine's, of the same shape) in, `run.started`,
`run.step_finished`, `run.finished` out.

Tekton's events are duplicated and unordered; `domain.run` makes any order of them end in the same state. Depends on the store and
a publisher.
"""
