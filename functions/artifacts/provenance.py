"""Provenance of artifacts: a signed statement on the run that made one."""

from __future__ import annotations

import flask

from functions.artifacts.deps import Deps
from functions.artifacts.paths import ONE, address_of
from fuseml.domain import artifact, errors
from fuseml.domain.lineage import provenance
from fuseml.runtime import attestation, http
from fuseml.store import artifacts, run_records, runs
from fuseml.version import __version__


def register(api: http.Api, deps: Deps) -> None:
    """Put the routes on the application."""

    @api.route("GET", f"{ONE}/provenance", returns=attestation.Envelope, refusals=(409,))
    def get_provenance(kind: str, project: str, name: str, version: str) -> attestation.Envelope:
        """Show the SLSA provenance of an artifact that a run has made, signed: a DSSE envelope with an in-toto statement."""
        return attest(deps, address_of(kind, project, name, version))

    @api.route("GET", "/artifacts/public-key", text="application/x-pem-file", refusals=(409,))
    def get_public_key() -> flask.Response:
        """Show the public key, in PEM, that verifies the signatures of provenance."""
        return flask.Response(_attestor(deps).public_key, content_type="application/x-pem-file")


def attest(deps: Deps, address: artifact.Address) -> attestation.Envelope:
    """The signed provenance. Raises NotFoundError, ConflictError without a key, a run or a digest."""
    attestor, text = _attestor(deps), str(address)
    with deps.store.read() as session:
        row = artifacts.get(session, text)
        run = runs.find_named(session, row.run) if row.run else None
        if run is None:
            raise errors.ConflictError(f"{text} was made by no run that is recorded here, so its provenance is not known")
        record = run_records.read(session, run)
    statement = provenance.statement(record.of(text), record, builder=deps.public_url, version=__version__)
    return attestor.envelope(provenance.encoded(statement), provenance.PAYLOAD)


def _attestor(deps: Deps) -> attestation.Attestor:
    if deps.attestor is None:
        raise errors.ConflictError(
            "this server has no key that signs provenance; set FUSEML_PROVENANCE_KEY to a private key (`openssl genpkey -algorithm ed25519`)"
        )
    return deps.attestor
