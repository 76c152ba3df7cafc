"""`fuseml up`: every function in one process, with stand-ins that keep the real rules.

The broker delivers by the production triggers, the git host sends Gitea's webhooks, the engine sends Tekton's events: a handler that
Knative would retry for ever fails here first.
"""
