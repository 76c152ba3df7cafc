"""The ledger of events, dead letters and their replay: HTTP `/events/**`. The cause of a run or of its absence: HTTP `/why`.

On Knative the broker delivers every event and every dead letter to endpoints of their own; both are recorded. The embedded broker
writes the same tables itself. Administrators replay an event or send one of their own. Depends on the store and a publisher.
"""
