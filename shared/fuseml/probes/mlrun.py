"""MLRun, recognised without an account by the facts that its clients ask for when they connect."""

from __future__ import annotations

from fuseml.domain.registry import extension
from fuseml.probes import draft, tool
from fuseml.probes.targets import Target

KEY = "V3IO_ACCESS_KEY"
"""The session key of the account; MLRun on its own needs none."""


def _detect(target: Target) -> extension.Extension | None:
    fields = target.get("/api/v1/client-spec").fields
    # Other services have a version, too.
    if not (isinstance(fields.get("version"), str) and "namespace" in fields and "mpijob_crd_version" in fields):
        return None
    store = draft.service(target, "mlrun", "mlrun", "artifact-store", variables=["MLRUN_DBPATH"], keys=(KEY,))
    return draft.record("mlrun", draft.version(str(fields["version"])), "MLRun", store)


def _check(target: Target) -> str | None:
    key = target.credentials.get(KEY)
    if not key:
        raise tool.no_keys(KEY)
    answer = target.get("/api/v1/projects?format=name_only", {"X-V3io-Session-Key": key})
    if answer.status == 401:
        return tool.refusal("MLRun", target, KEY)
    if answer.status in (200, 403):
        return None
    raise tool.unknown(target, answer)


TOOL = tool.Tool(detect=_detect, check=_check, resources=frozenset({"mlrun"}))
