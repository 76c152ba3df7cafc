"""Runs: HTTP `/runs/**` and, in the original's shape, `/workflows/runs`. Announces `run.requested`, `run.cancel_requested`,
`run.approved`, `run.rejected`.

What cannot be run is refused at once: the plan of a request is made here too, and dropped. Who approves or rejects a step is recorded
here, what follows from it is the `dispatcher`'s. Reads what `dispatcher` and `run_tracker` store; logs come from the engine until
`housekeeper` has put them into the contents, and from there afterwards. Depends on the store, the contents, the engine (logs only:
cancelling is asked for by event, so that one function alone may touch what executes) and a publisher.
"""
