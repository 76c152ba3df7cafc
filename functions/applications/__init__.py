"""Applications, the served things that runs produce: HTTP `/applications`.

Registered by predictor steps (with a workload's token) and read by people. Registering is an upsert by name; each change makes a revision,
and people say which revisions get the requests. What is recorded is served: a serving is told after every commit, and all of it again by
`housekeeper`. Depends on the store, the keyring and the servings.
"""
