"""Projects and codesets: HTTP `/projects`, `/codesets`, and `/whoami`, the caller as the server sees it. Publishes `codeset.registered` and `codeset.removed`.

Depends on the store, the git host, the keyring (webhook secrets, push credentials) and a publisher.
Registration is idempotent: the repository is created first, so that a second call repairs a crash in between.
The secret of a codeset's webhooks can be replaced, also on the git host; the old one stays valid for a while.
"""
