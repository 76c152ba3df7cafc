"""The digests of the models that applications serve."""

from __future__ import annotations

from collections.abc import Mapping

import sqlmodel

from fuseml.domain import artifact, errors
from fuseml.store import artifacts

TAG = "fuseml.digest"
"""The tag of a model version with its digest; as `fuseml.steps.tracking`, which runs where this package is not installed."""


def of_tags(tags: Mapping[str, str]) -> str | None:
    """The digest with which a version is tagged; None for a version without one, also where the tag is no digest: any step can set it."""
    return artifact.digest_of(tags.get(TAG))


def expected(session: sqlmodel.Session, project: str | None, model: str | None, claimed: str | None) -> str | None:
    """The digest that the record of a model of the project has, else the `claimed` one. Raises ConflictError if both exist and differ."""
    address = artifact.model_of(project, model or "") if project else None
    recorded = artifacts.digest(session, str(address)) if address else None
    if recorded and claimed and claimed != recorded:
        raise errors.ConflictError(
            f"{model} has the digest {claimed} on the tracking server, but {recorded} was recorded as {address}; "
            "its files or tags were changed since"
        )
    return recorded or claimed
