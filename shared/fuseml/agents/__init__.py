"""Agents: HTTP services that speak a protocol of FuseML for a tool, registered as extensions and found by selector (docs/agents.md).

A store agent is a class with the operations of `artifactstores.ArtifactStore`, served by `agents.store`; a workload agent is a
`agents.jobs.Workload`, served by `agents.workload`. `conformance` checks running agents.
"""
