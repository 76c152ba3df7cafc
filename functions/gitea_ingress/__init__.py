"""Webhooks of Gitea (and of GitHub, whose pushes look alike): HTTP `POST /webhooks/gitea`. Announces `codeset.pushed`.

The signature is checked with the codeset's own secret, or one that it replaced a short while ago, before anything is believed; deletes
and other events are acknowledged and ignored. Accepting is one transaction: the ref's last seen commit and the event in the outbox.
Depends on the store, the keyring and a publisher.
"""
