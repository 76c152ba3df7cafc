"""Runs: HTTP `/runs/**`, `/pipelines/results` and, in the original's shape, `/workflows/runs`. Publishes `run.requested`,
`run.cancel_requested`, `run.approved`, `run.rejected`.

An impossible run is refused at once: the plan of a request is built here too, and dropped. Decisions on approvals are recorded here;
`dispatcher` acts on them. Reads the rows of `dispatcher` and `run_tracker`. Logs come from the engine until `housekeeper` has put them into
the contents, and from the contents afterwards. Depends on the store, the contents, the engine (logs only: cancellation is requested by
event, so that one function alone may touch executions) and a publisher.
"""
