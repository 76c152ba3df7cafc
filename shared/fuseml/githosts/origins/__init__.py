"""Hosts of origins: Gitea, Forgejo, GitHub, GitLab, and any other server of git, which is only read.

One contract suite holds them equal (`tests/contract/test_origins.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fuseml.domain import origins
from fuseml.githosts.origins.port import Access, Form, OriginHost, Webhook

__all__ = ["IMPLEMENTATIONS", "Access", "Connect", "Form", "OriginHost", "Webhook", "connect"]

Connect = Callable[[origins.Origin, str], OriginHost | None]
"""Makes the client of an origin's host, with a token, which is empty without an account; None for a host without an API."""


def _gitea(origin: origins.Origin, token: str) -> OriginHost:
    from fuseml.githosts.origins import gitea

    return gitea.Gitea(origin.base, origin.path, token)


def _forgejo(origin: origins.Origin, token: str) -> OriginHost:
    from fuseml.githosts.origins import gitea

    return gitea.Gitea(origin.base, origin.path, token, "forgejo")


def _github(origin: origins.Origin, token: str) -> OriginHost:
    from fuseml.githosts.origins import github

    return github.GitHub(origin.base, origin.path, token)


def _gitlab(origin: origins.Origin, token: str) -> OriginHost:
    from fuseml.githosts.origins import gitlab

    return gitlab.GitLab(origin.base, origin.path, token)


IMPLEMENTATIONS: Mapping[str, Callable[[origins.Origin, str], OriginHost]] = {
    "gitea": _gitea,
    "forgejo": _forgejo,
    "github": _github,
    "gitlab": _gitlab,
}
"""Product -> its client; a host elsewhere than here is one more line."""


def connect(origin: origins.Origin, token: str) -> OriginHost | None:
    """The client of the origin's host; None for a host without an API. Connects at the first call."""
    make = IMPLEMENTATIONS.get(origin.host)
    return make(origin, token) if make else None
