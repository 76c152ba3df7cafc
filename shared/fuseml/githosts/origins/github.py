"""Repositories on GitHub, and on a GitHub Enterprise Server."""

from __future__ import annotations

from fuseml.domain import commit_statuses
from fuseml.domain.registry import custody
from fuseml.githosts.origins import api, gitea
from fuseml.githosts.origins.port import Access, Form, Webhook

EVENTS = ("push", "create", "delete", "pull_request")

_PUBLIC = "https://github.com"
_PUBLIC_API = "https://api.github.com"
# The version whose answers are read here.
_VERSION = "2022-11-28"


class GitHub:
    """The repository `owner/name` on the GitHub at `base`. The token is a fine-grained or a classic one, or that of an app's installation."""

    form = Form("Secret", EVENTS)

    def __init__(self, base: str, repository: str, token: str) -> None:
        headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _VERSION}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._api = api.Api("GitHub", _PUBLIC_API if custody.address(base) == _PUBLIC else f"{base}/api/v3", headers)
        self._repository = api.path("repos", *repository.split("/"))

    def access(self) -> Access:
        """See `OriginHost.access`. The rights are those of the token's owner; a fine-grained token may have fewer, which only its use shows."""
        return self._api.get(self._repository, lambda item: gitea.access(item, account=self._api.has_account))

    def webhooks(self) -> list[Webhook]:
        """See `OriginHost.webhooks`."""
        return list(self._api.pages(f"{self._repository}/hooks", _webhook))

    def add_webhook(self, url: str, secret: str) -> None:
        """See `OriginHost.add_webhook`."""
        config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
        self._api.send("POST", f"{self._repository}/hooks", {"name": "web", "active": True, "events": [*EVENTS], "config": config})

    def remove_webhook(self, id: str) -> None:
        """See `OriginHost.remove_webhook`."""
        gitea.remove(self._api, f"{self._repository}/hooks", id)

    def set_status(self, commit: str, status: commit_statuses.Status) -> None:
        """See `OriginHost.set_status`."""
        self._api.send("POST", f"{self._repository}/statuses/{commit}", gitea.body(status))


def _webhook(item: api.Item) -> Webhook:
    last = item.get("last_response") or {}
    code = last.get("code")
    # `unused` before the first delivery, with no code.
    failed = code is not None and not 200 <= int(code) < 300
    problem = (
        f"the last delivery was answered with {api.line(code)}: {api.line(last.get('message') or last.get('status'))}" if failed else ""
    )
    return gitea.webhook(item, problem)
