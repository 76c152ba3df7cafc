"""Runs: states and observations. The modules beside them hold the lifecycle of runs and the approvals of steps."""

from fuseml.domain.runs.state import FINISHED, Observation, Progress, State, advance, blame, infer

__all__ = ["FINISHED", "Observation", "Progress", "State", "advance", "blame", "infer"]
