"""Repositories on Gitea and Forgejo, whose APIs agree."""

from __future__ import annotations

from fuseml.domain import commit_statuses, errors
from fuseml.githosts.origins import api
from fuseml.githosts.origins.port import Access, Form, Webhook

EVENTS = ("push", "create", "delete", "pull_request")


class Gitea:
    """The repository `owner/name` on the Gitea or Forgejo at `base`; `kind` is the type of its webhooks."""

    form = Form("Secret", EVENTS)

    def __init__(self, base: str, repository: str, token: str, kind: str = "gitea") -> None:
        headers = {"Authorization": f"token {token}"} if token else {}
        self._api = api.Api(kind.capitalize(), f"{base}/api/v1", headers)
        self._repository, self._kind = api.path("repos", *repository.split("/")), kind

    def access(self) -> Access:
        """See `OriginHost.access`."""
        # Gitea lets every writer set statuses, and administrators of the repository make webhooks.
        return self._api.get(self._repository, lambda item: access(item, account=self._api.has_account))

    def webhooks(self) -> list[Webhook]:
        """See `OriginHost.webhooks`."""
        return list(self._api.pages(f"{self._repository}/hooks", webhook, "limit"))

    def add_webhook(self, url: str, secret: str) -> None:
        """See `OriginHost.add_webhook`."""
        config = {"url": url, "content_type": "json", "http_method": "post", "secret": secret}
        self._api.send("POST", f"{self._repository}/hooks", {"type": self._kind, "active": True, "events": [*EVENTS], "config": config})

    def remove_webhook(self, id: str) -> None:
        """See `OriginHost.remove_webhook`."""
        remove(self._api, f"{self._repository}/hooks", id)

    def set_status(self, commit: str, status: commit_statuses.Status) -> None:
        """See `OriginHost.set_status`."""
        self._api.send("POST", f"{self._repository}/statuses/{commit}", body(status))


def access(item: api.Item, *, account: bool) -> Access:
    """The rights of an account in a repository as Gitea, Forgejo and GitHub describe it."""
    rights = item.get("permissions") or {}
    return Access(account, True, account and bool(rights.get("admin")), account and bool(rights.get("push")))


def webhook(item: api.Item, problem: str = "") -> Webhook:
    """A webhook as Gitea, Forgejo and GitHub describe it."""
    return Webhook(str(item["id"]), str(item["config"].get("url", "")), bool(item.get("active")), problem)


def body(status: commit_statuses.Status) -> dict[str, object]:
    """A status as Gitea, Forgejo and GitHub take it."""
    link = {"target_url": status.target_url} if status.target_url else {}
    return {"state": status.state, "context": status.context, "description": status.description, **link}


def remove(client: api.Api, hooks: str, id: str) -> None:
    """Delete a webhook; a missing one is no error."""
    try:
        client.send("DELETE", f"{hooks}/{api.path(id)[1:]}")
    except errors.NotFoundError:
        return
