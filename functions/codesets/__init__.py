"""Projects and codesets: HTTP `/projects`, `/codesets`. Announces `codeset.registered` and `codeset.removed`.

Depends on the store, the git host, the keyring (webhook secrets, push credentials) and a publisher.
Registering is idempotent: the repository is made first, so that a crash in between leaves nothing that a second call does not mend.
The secret of a codeset's webhooks can be replaced; the git host is told, and the one before stays good for a while.
"""
