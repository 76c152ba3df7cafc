"""Prometheus, recognised by its build information. A server with basic authentication hides it until it gets an account."""

from __future__ import annotations

from fuseml.domain.registry import extension
from fuseml.plugins import Plugin
from fuseml.probes import draft, targets, tool
from fuseml.probes.targets import Target

_BUILD = "/api/v1/status/buildinfo"
_KEYS = ("username", "password")


def _detect(target: Target) -> extension.Extension | None:
    answer = target.get(_BUILD)
    data = answer.fields.get("data")
    # Thanos and Mimir have the same route, with the field `application`.
    if answer.status != 200 or not isinstance(data, dict) or "goVersion" not in data or "application" in data:
        return None
    server = draft.service(target, "api", "prometheus", "monitoring", variables=["PROMETHEUS_URL"], keys=_KEYS)
    return draft.record("prometheus", draft.version(data.get("version")), "Metrics", server)


def _check(target: Target) -> str | None:
    username, password = (target.credentials.get(key, "") for key in _KEYS)
    if not (username and password):
        raise tool.no_keys("username and password")
    answer = target.get(_BUILD, targets.basic(username, password))
    if answer.status == 401:
        return tool.refusal("Prometheus", target, "username and password")
    if answer.status == 200:
        return None
    raise tool.unknown(target, answer)


PLUGIN = Plugin(contract=1, implementation=tool.Tool(detect=_detect, check=_check, resources=frozenset({"prometheus"})))
