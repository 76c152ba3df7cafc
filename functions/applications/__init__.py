"""Applications, the served things that runs produce: HTTP `/applications`.

Registered by predictor steps (with a workload's token) and read by people. Registering is an upsert by name.
Depends on the store only.
"""
