"""Gitea, and Forgejo, which reports its own version and the compatible one of Gitea."""

from __future__ import annotations

from fuseml.domain.registry import extension
from fuseml.probes import draft, targets, tool
from fuseml.probes.targets import Target

_KEYS = ("username", "password", "token")
_NAMES = "username and password, or token"


def _detect(target: Target) -> extension.Extension | None:
    answer = target.get("/api/v1/version")
    version = draft.version(answer.fields.get("version"))
    # Airflow and Argo Workflows have the same route, with more fields.
    if answer.status != 200 or not version or len(answer.fields) > 1:
        return None
    own, compatible, _ = version.partition("+gitea-")
    product = "forgejo" if compatible else "gitea"
    resource = "git+https" if target.url.startswith("https") else "git+http"
    return draft.record(product, own, "Git hosting", draft.service(target, "git", resource, "VCS", keys=_KEYS))


def _check(target: Target) -> str | None:
    username, password, token = (target.credentials.get(key) for key in _KEYS)
    if not (token or (username and password)):
        raise tool.no_keys(_NAMES)
    headers = {"Authorization": f"token {token}"} if token else targets.basic(username or "", password or "")
    answer = target.get("/api/v1/user", headers)
    if answer.status == 401:
        return tool.refusal("the git host", target, _NAMES)
    # 403: the token is valid but may not read the user.
    if answer.status == 403 or (answer.status == 200 and "login" in answer.fields):
        return None
    raise tool.unknown(target, answer)


TOOL = tool.Tool(detect=_detect, check=_check, resources=frozenset({"git", "git+http", "git+https"}))
