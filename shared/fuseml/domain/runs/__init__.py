"""Runs: states and observations; beside them the lifecycle and the approvals of steps."""

from fuseml.domain.runs.state import FINISHED, Observation, Progress, State, advance, blame, infer

__all__ = ["FINISHED", "Observation", "Progress", "State", "advance", "blame", "infer"]
