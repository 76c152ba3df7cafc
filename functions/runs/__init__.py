"""Runs: HTTP `/runs/**` and, in the original's shape, `/workflows/runs`. Announces `run.requested`, `run.cancel_requested`.

What cannot be run is refused at once: the plan of a request is made here too, and dropped. Reads what `dispatcher` and `run_tracker` store; logs come from the engine while the steps run. Depends on the store, the engine
(logs only: cancelling is asked for by event, so that one function alone may touch what executes) and a publisher.
"""
