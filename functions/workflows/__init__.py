"""Workflows and their assignments: HTTP `/workflows`, `/workflows/assignments`. Publishes `workflow.updated`, `workflow.assigned`.

Every change of a workflow creates a new revision; assignments stay. With `dry_run`, a document is validated only, with its selectors
resolved as for a run. A forced deletion publishes `run.cancel_requested` for active runs. Depends on the store, the git host (for the
reuse of steps in plans) and a publisher.
"""
