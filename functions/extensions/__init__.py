"""The extension registry: HTTP `/extensions/**`, records at every level. Announces `extension.registered|updated|removed`.

Credentials values are sealed before they are stored and are never shown: answers carry `<hidden>`, and a `<hidden>` that is sent
back keeps the stored value. Depends on the store, the keyring and a publisher.
"""
