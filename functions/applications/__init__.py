"""Applications, the served models of runs: HTTP `/applications`.

Predictor steps register them with their own tokens. Registration is an upsert by name; each change makes a revision, and users assign the
traffic to revisions. A serving applies each change after its commit, and `housekeeper` reconciles all of them. Depends on the store, the
keyring and the servings.
"""
