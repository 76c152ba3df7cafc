"""Webhooks of Gitea, Forgejo, Gogs and GitHub: HTTP `POST /webhooks/gitea`. Publishes `codeset.pushed`.

Webhooks of the hosts of origins, GitLab too: HTTP `POST /webhooks/git/PROJECT/CODESET`. Publishes `codeset.reported`, whose event only says that
it is time to look at the origin: of a body nothing but its proof is read.

The body, of up to 25 MiB, is streamed, and verified with the codeset's current secret, or one that was replaced a short while ago, before it is
parsed. Deletions are recorded as moves of their refs; other events are acknowledged and ignored. One transaction records the move of the ref
and enqueues the event, once for each push (domain.pushes).
Depends on the store, the keyring and a publisher.
"""
