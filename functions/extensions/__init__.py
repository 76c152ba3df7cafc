"""The extension registry: HTTP `/extensions/**`, records at every level. Announces `extension.registered|updated|removed`.

Credentials values are sealed before they are stored and are never shown: answers carry `<hidden>`, and a `<hidden>` that is sent
back keeps the stored value. What a change would do to workflows is told before (`/extensions/plan`, `dry_run`), and a deletion
that would break assigned ones is refused. `/extensions/discover` asks addresses which tools they are. `/extensions/ID/webhook`
makes and replaces the secret with which a tracking server signs. Depends on the store, the keyring, a publisher, tracking servers and
the probes.
"""
