"""Workflows and their assignments: HTTP `/workflows`, `/workflows/assignments`. Announces `workflow.updated`, `workflow.assigned`.

Every change of a workflow makes a new revision; what is assigned stays assigned. Depends on the store and a publisher.
"""
