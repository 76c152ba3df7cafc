"""Git hosts store the code of codesets: bare repositories that users push to and runs read by commit.

Two git hosts implement the `GitHost` protocol: `embedded` (repositories on the local disk, served over HTTP by `smart_http`) and `gitea`.
Both report a push by Gitea's webhook, so `gitea_ingress` handles them alike. Both pass one contract suite
(`tests/contract/test_githost.py`).
"""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from fuseml.domain import errors
from fuseml.githosts.port import Commit, GitHost, Push

__all__ = ["Commit", "GitHost", "Push", "connect"]


def connect(url: str, token: str, public_url: str) -> GitHost:
    """The Gitea at `url`, managed with an administrator's `token`; its webhooks go to the API at `public_url`. Connects at the first use.

    `file:///FOLDER` is the folder of an embedded server's repositories, to read them beside that server. Raises InvalidError for another folder.
    """
    if url.startswith("file://"):
        from fuseml.githosts import embedded

        parts = urllib.parse.urlsplit(url)
        if parts.netloc or not parts.path.startswith("/"):
            raise errors.InvalidError("the folder of a git host must be file:///FOLDER")
        return embedded.EmbeddedGitHost(Path(urllib.parse.unquote(parts.path)), url, owned=False)
    from fuseml.githosts import gitea

    return gitea.GiteaHost(url, token, f"{public_url.rstrip('/')}/webhooks/gitea")
