"""Artifacts and lineage: HTTP `/artifacts`, `/lineage`; events `codeset.pushed`, `model.registered`, `model.tagged`, `run.step_finished` in,
`artifact.recorded`, `artifact.deleted`, `artifact.tagged`, `artifact.untagged`, `artifact.labelled`, `artifact.unlabelled` out.

An artifact is recorded once, by the first event about it. The artifacts of a run are read from the outputs of its steps as they
finish (infra/decisions/0003-artifacts-from-steps.md). Depends on the store and a publisher.
"""
