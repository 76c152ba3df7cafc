"""Git hosts store the code of codesets: bare repositories that users push to and runs read by commit.

Two git hosts implement the `GitHost` protocol: `embedded` (repositories on the local disk, served over HTTP by `smart_http`) and `gitea`.
Both report a push by Gitea's webhook, so `gitea_ingress` handles them alike. Both pass one contract suite
(`tests/contract/test_githost.py`). A git host of another package is a plugin.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from pathlib import Path

from fuseml.domain import errors
from fuseml.githosts.port import Commit, GitHost, Push
from fuseml.plugins import Seam

__all__ = ["PLUGINS", "Commit", "GitHost", "Push", "connect"]

Connector = Callable[[str, str, str], GitHost]
"""Takes the arguments of `connect`, the URL without the plugin's name."""

PLUGINS: Seam[Connector] = Seam(
    "fuseml.githosts",
    1,
    ("file", "git", "gitea"),
    refusal=errors.PermanentError,
    own=errors.FusemlError,
    shape="a callable that takes URL, token and public URL",
)
"""Connectors of other packages: NAME in the URL `NAME+https://host`."""


def connect(url: str, token: str, public_url: str) -> GitHost:
    """The Gitea at `url`, managed with an administrator's `token`; its webhooks go to the API at `public_url`. Connects at the first use.

    `file:///FOLDER` is the folder of an embedded server's repositories, to read them beside that server. Raises InvalidError for another folder.
    `NAME+https://HOST` is the host at `https://HOST` of the plugin NAME. Raises InvalidError without that plugin, and PermanentError where it
    cannot be used.
    """
    name, plus, address = url.partition("+")
    if plus and name.isidentifier() and address.startswith(("http://", "https://")):
        plugin = PLUGINS.get(name)
        if plugin is None:
            known = ", ".join(PLUGINS.names()) or "none"
            raise errors.InvalidError(f"no installed package has a git host {name!r}; the known ones are {known}")
        return PLUGINS.call(name, plugin, address, token, public_url)
    if url.startswith("file://"):
        from fuseml.githosts import embedded

        parts = urllib.parse.urlsplit(url)
        if parts.netloc or not parts.path.startswith("/"):
            raise errors.InvalidError("the folder of a git host must be file:///FOLDER")
        return embedded.EmbeddedGitHost(Path(urllib.parse.unquote(parts.path)), url, owned=False)
    from fuseml.githosts import gitea

    return gitea.GiteaHost(url, token, f"{public_url.rstrip('/')}/webhooks/gitea")
