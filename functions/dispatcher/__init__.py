"""Starts runs: events `codeset.pushed`, `codeset.removed`, `workflow.assigned`, `artifact.recorded`, `extension.registered`,
`extension.updated`, `schedule.reached`, `run.requested`, `run.cancel_requested`, `run.finished`, `run.approved`, `run.rejected` in; `run.created`, `run.approval_requested`, `run.step_finished` and
`run.finished` (of runs that cannot start, must not continue or have nothing to execute), `run.cancel_requested` (of superseded runs) out.

One transaction fixes the workflow's revision, the inputs and the commit, resolves every selector, looks up the steps that can be reused, and
stores the run with its plan; then the plan is submitted to the engine. The identity of a run is its meaning (workflow revision, inputs,
assignment), so that a push makes one run, however often and on whichever path it is delivered. Submission is idempotent and repeated until
it is recorded. A run of a concurrency group is submitted when every earlier one has finished; a run with approvals is submitted in several
executions (domain.runs.lifecycle).
Depends on the store, the git host (the content that steps watch), the keyring (secrets for the engine), an engine and a publisher.
"""
