"""Webhooks of Gitea and GitHub: HTTP `POST /webhooks/gitea`. Publishes `codeset.pushed`.

The signature is verified with the codeset's current secret, or one that was replaced a short while ago, before the body is used. Deletes and
other events are acknowledged and ignored. One transaction stores the ref's last published commit and enqueues the event.
Depends on the store, the keyring and a publisher.
"""
