"""Artifacts and lineage: HTTP `/artifacts`, `/lineage`; events `codeset.pushed`, `model.registered`, `model.tagged`, `run.step_finished` in,
`artifact.recorded`, `artifact.deleted`, `artifact.tagged`, `artifact.untagged`, `artifact.labelled`, `artifact.unlabelled` out.

An artifact is recorded once, by the first event about it. The artifacts of a run are read from the outputs of its steps as they
finish (infra/decisions/0003-artifacts-from-steps.md); those that were made of a step's files are described by their artifact store. Users get
the address and an account of a store, never contents. Provenance is signed with the key of the installation. Depends on
the store, a publisher, the keyring, that key, and the artifact stores of the registry.
"""
