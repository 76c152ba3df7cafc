"""Tokens of steps: signed, made for one step of one run, and good until that step, or the run, has ended.

A token holds what it claims and a signature by the keyring, so nothing is stored and a repeated submission makes the same one. It has no
time of its own: the state of the run decides, so no clock can be wrong. A new run of the same workflow (rerun, resume) has other tokens.
"""

from __future__ import annotations

import base64
import binascii
import json

from fuseml.domain import errors, plans
from fuseml.domain.plans import identity
from fuseml.domain.runs import FINISHED
from fuseml.runtime import auth, secrets
from fuseml.store import database, runs

_PURPOSE = "step"
_LONGEST = 4096
_INVALID = "the token is not valid"


def issue(keyring: secrets.Keyring, execution: plans.Plan, step: str) -> str:
    """The token of a step of an execution."""
    claims = [execution.project, execution.id, step, *plans.token_scopes(execution.step(step))]
    text = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).decode().rstrip("=")
    return f"{auth.STEP_PREFIX}{text}.{keyring.sign(_PURPOSE, text)}"


def verify(store: database.Database, keyring: secrets.Keyring, token: str) -> auth.StepCaller:
    """The step that the token was made for, if it and its run have not ended. Raises UnauthenticatedError."""
    execution, step, scopes = _claims(keyring, token)
    run_id, number = identity.execution_of(execution)
    with store.read() as session:
        found = runs.step_of(session, run_id, step)
    if found is None:
        raise errors.UnauthenticatedError("the token's run is not known any more")
    row, state = found
    if row.state in FINISHED or row.cancelled is not None:
        raise errors.UnauthenticatedError(f"the token has ended with its run {row.name}; every run gets new ones")
    if state.state in FINISHED or state.execution != number:
        raise errors.UnauthenticatedError(f"the token has ended with its step {step!r} of {row.name}")
    return auth.StepCaller(row.project, row.codeset, row.workflow, row.name, step, scopes)


def _claims(keyring: secrets.Keyring, token: str) -> tuple[str, str, tuple[str, ...]]:
    """The execution, the step and the scopes of a token that the keyring has signed. Raises UnauthenticatedError."""
    text, _, signature = token.removeprefix(auth.STEP_PREFIX).partition(".")
    if len(token) > _LONGEST or not keyring.has_signed(_PURPOSE, text, signature):
        raise errors.UnauthenticatedError(_INVALID)
    try:
        _, execution, step, *scopes = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError) as error:
        # Signed by another release, whose tokens have another form.
        raise errors.UnauthenticatedError(_INVALID) from error
    return execution, step, tuple(scopes)
