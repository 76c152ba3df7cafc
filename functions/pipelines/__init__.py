"""Pipelines, the workflows that are made of runnables, and the catalogues of their templates: HTTP `/pipelines`, `/catalogs`.

Composition stores nothing. An addition stores a workflow with its assignments, and publishes `workflow.updated` and `workflow.assigned`. A
catalogue is a record of the registry: its registration publishes `extension.registered`. Depends on the store, the keyring (for the
accounts of catalogues), the network (for their repositories) and a publisher.
"""
