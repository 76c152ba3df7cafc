"""Where the code of codesets lives: bare repositories that people push to, read by commit.

Two implementations fit the `GitHost` protocol: `embedded` (repositories on this disk, served over HTTP by `smart_http`) and
`gitea`. Both tell of a push in the same words, Gitea's webhook, so that `gitea_ingress` cannot tell them apart. One suite of tests
(`tests/contract/test_githost.py`) holds for both.
"""

from __future__ import annotations

from fuseml.githosts.port import GitHost, Push

__all__ = ["GitHost", "Push", "connect"]


def connect(url: str, token: str, public_url: str) -> GitHost:
    """The Gitea at `url`, managed with an administrator's `token`; pushes are told to the API at `public_url`. Connects at first use."""
    from fuseml.githosts import gitea

    return gitea.GiteaHost(url, token, f"{public_url.rstrip('/')}/webhooks/gitea")
