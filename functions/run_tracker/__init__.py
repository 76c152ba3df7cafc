"""Keeps the state of runs: Tekton's own events (or the local engine's, of the same shape) in, `run.started`,
`run.step_finished`, `run.approval_requested`, `run.finished` out, and `run.requested` for the next execution of a run that was approved.

Tekton's events are duplicated and unordered; with `domain.runs.state` and `domain.runs.lifecycle` any order of them ends in the same state.
Everyone can send events of Tekton's types, so an event without FuseML's signature is a hint: the engine is asked, and its answer is applied.
Depends on the store, a publisher and the engine.
"""
