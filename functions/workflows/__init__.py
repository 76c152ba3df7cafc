"""Workflows and their assignments: HTTP `/workflows`, `/workflows/assignments`. Announces `workflow.updated`, `workflow.assigned`.

Every change of a workflow makes a new revision; what is assigned stays assigned. With `dry_run`, a document is only looked at, with its
selectors resolved as a run would find them now. Deleting by force announces `run.cancel_requested` for the runs that are active.
Depends on the store, the git host (plans look into the cache) and a publisher.
"""
