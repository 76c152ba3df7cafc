"""The extension registry: HTTP `/extensions/**`, records at every level. Publishes `extension.registered|updated|removed`.

Credentials values are sealed before they are stored and never returned: responses hold `<hidden>`, and a `<hidden>` in a request keeps the
stored value. `/extensions/plan` and `dry_run` report the impact of a change on workflows; a deletion that breaks assigned workflows is
refused. `/extensions/discover` recognises the tools at given URLs. `/extensions/ID/webhook` creates and replaces the webhook secret of a
tracking server. Depends on the store, the keyring, a publisher, tracking servers and the probes.
"""
