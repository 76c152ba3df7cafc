"""The sweep: each tick of a PingSource repairs lost events and interrupted work, and starts time-driven jobs.

It publishes pending events of the outbox, missed pushes of git hosts (`codeset.pushed`) and missed model versions of tracking servers
(`model.registered`; tags and aliases have no history to compare), versions that others have written to artifact stores (`artifact.recorded`;
data of DVC also on `codeset.pushed`), the engine's events of unfinished runs again, and a request for each
execution that no engine got (`run.requested`). Codesets that are copies follow their origins, also on `codeset.reported`, and git hosts get the
commit statuses of runs, also on `run.created`, `run.started` and `run.finished`. It ends runs that the engine has lost (`run.finished`) and passes cancellations on again. It
lets approvals expire (`run.rejected`), lets applications follow the moving addresses of their models, also on `model.aliased` and
`model.registered`, reconciles the servings with the applications, archives the logs of finished steps, applies
retention (events, executions in the engine, logs; artifacts and their contents: `artifact.deleted`), sends lineage to an OpenLineage endpoint, and checks the health of registered endpoints and credentials. A repeated event has the
id of the original, so a late original is a duplicate. `schedule.reached` is published once for each scheduled minute, with any number of
housekeepers. Depends on the store, the git host, the engine, the servings, the contents, a publisher, the keyring, tracking servers, the
artifact stores of the registry and the probes.
"""
