"""The ledger of events, dead letters and their replay: HTTP `/events/**`; and why something started or did not: HTTP `/why`.

On Knative every event comes to `/` and is written down, and what the broker could not deliver comes to `/dead-letters`; the embedded
broker writes the same tables itself. Sends what administrators ask for: an event again, or one of their own. Depends on the store and
a publisher.
"""
