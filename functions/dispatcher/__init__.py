"""Starts runs: events `codeset.pushed`, `workflow.assigned`, `artifact.recorded`, `schedule.reached`, `run.requested`,
`run.cancel_requested`, `run.finished`, `run.approved`, `run.rejected` in; `run.created`, `run.approval_requested`, `run.step_finished` and
`run.finished` (for what could not start, must not go on or has nothing to execute), `run.cancel_requested` (for what is superseded) out.

In one transaction it fixes the workflow's revision, the inputs and the commit, resolves every selector, looks up the steps that can be
reused, and stores the run with its plan; then it submits the plan to the engine. A run is its meaning (workflow revision, inputs,
assignment), so however often and by whichever path a push is told, it makes one run. Submitting is idempotent and repeated until it is
recorded; a run of a concurrency group is submitted when every earlier one has finished, and one that waits for people in several
executions (domain.runs.lifecycle).
Depends on the store, the git host (the content that steps watch), the keyring (secrets for the engine), an engine and a publisher.
"""
