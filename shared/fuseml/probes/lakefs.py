"""lakeFS, recognised without an account by the state of its setup, which its page of sign-in reads."""

from __future__ import annotations

import base64

from fuseml.domain.registry import extension
from fuseml.probes import draft, tool
from fuseml.probes.targets import Target

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""The account, for the API and the S3 gateway."""

_STATES = ("initialized", "not_initialized")


def _detect(target: Target) -> extension.Extension | None:
    fields = target.get("/api/v1/setup_lakefs").fields
    if fields.get("state") not in _STATES or not isinstance(fields.get("login_config"), dict):
        return None
    # No artifact store yet: its record names a repository.
    store = draft.service(target, "lakefs", "lakefs", "object-storage", variables=["AWS_ENDPOINT_URL_S3"], auth_required=True, keys=KEYS)
    return draft.record("lakefs", "", "Versioned object storage", store)


def _check(target: Target) -> str | None:
    key, secret = (target.credentials.get(name) for name in KEYS)
    if not (key and secret):
        raise tool.no_keys(" and ".join(KEYS))
    account = base64.b64encode(f"{key}:{secret}".encode()).decode()
    answer = target.get("/api/v1/repositories?amount=1", {"Authorization": f"Basic {account}"})
    if answer.status == 401:
        return tool.refusal("lakeFS", target, " and ".join(KEYS))
    if answer.status in (200, 403):
        return None
    raise tool.unknown(target, answer)


TOOL = tool.Tool(detect=_detect, check=_check, resources=frozenset({"lakefs"}))
