"""The sweep: a PingSource's tick in; repairs what was lost, because sources and processes lose things, and tells the time.

Relays the outbox, compares the refs of the git host with the last announced commits (`codeset.pushed` for what was missed) and the
registries of tracking servers with the announced versions (`model.registered`; tags and aliases have no history to compare), asks
the engine about unfinished runs (Tekton's events, again), has runs submitted that no engine got (`run.requested`), lets approvals
expire that nobody gave in time (`run.rejected`), serves what applications want and nothing else, keeps the logs of steps that have
ended, forgets what is past its retention (events, runs that the engine remembers, logs), and checks the health of registered endpoints
and credentials. Everything it announces has the id of the original, so a late original is a duplicate. Scheduled minutes that have come
are `schedule.reached`, once each, however many housekeepers there are. Depends on the store, the git host, the engine, the servings, the
contents, a publisher, the keyring, tracking servers and the probes.
"""
