"""Sources: git repositories whose files become records, workflows, assignments and projects. HTTP `/sources/**`; events `codeset.pushed` and ticks.

A push to a codeset reconciles its sources; a tick looks at every source that was not looked at for a while, so that a lost push loses nothing, and
repositories elsewhere are followed. One transaction makes everything equal to the files of one commit, or nothing; it also holds the ownership
of each item, the result and the events `source.synced|refused`, `extension.registered|updated|removed`, `workflow.updated|assigned`. Depends on the
store, the git host, the keyring (accounts of repositories, secrets of records), the network and a publisher.
"""
