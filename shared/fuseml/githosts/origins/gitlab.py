"""Projects on GitLab."""

from __future__ import annotations

from collections.abc import Mapping

from fuseml.domain import commit_statuses, errors
from fuseml.githosts.origins import api, gitea
from fuseml.githosts.origins.port import Access, Form, Webhook
from fuseml.webhooks import origins

EVENTS = ("Push events", "Tag push events", "Merge request events")

_DEVELOPER, _MAINTAINER = 30, 40
_STATES: Mapping[commit_statuses.State, str] = {"pending": "pending", "success": "success", "failure": "failed", "error": "failed"}


class GitLab:
    """The project `group/.../name` on the GitLab at `base`; the token has the scope `api`."""

    form = Form("Secret token", EVENTS)

    def __init__(self, base: str, repository: str, token: str) -> None:
        self._api = api.Api("GitLab", f"{base}/api/v4", {"PRIVATE-TOKEN": token} if token else {})
        self._project = api.path("projects", repository)

    def access(self) -> Access:
        """See `OriginHost.access`."""
        level, account = self._api.get(self._project, _level), self._api.has_account
        return Access(account, True, account and level >= _MAINTAINER, account and level >= _DEVELOPER)

    def webhooks(self) -> list[Webhook]:
        """See `OriginHost.webhooks`."""
        return list(self._api.pages(f"{self._project}/hooks", _webhook))

    def add_webhook(self, url: str, secret: str) -> None:
        """See `OriginHost.add_webhook`. A GitLab that can sign does so; another one ignores the field, and sends the token."""
        flags = {"push_events": True, "tag_push_events": True, "merge_requests_events": True, "enable_ssl_verification": True}
        self._api.send(
            "POST", f"{self._project}/hooks", {"url": url, "token": secret, "signing_token": origins.signing_token(secret), **flags}
        )

    def remove_webhook(self, id: str) -> None:
        """See `OriginHost.remove_webhook`."""
        gitea.remove(self._api, f"{self._project}/hooks", id)

    def set_status(self, commit: str, status: commit_statuses.Status) -> None:
        """See `OriginHost.set_status`."""
        link = {"target_url": status.target_url} if status.target_url else {}
        body = {"state": _STATES[status.state], "name": status.context, "description": status.description, **link}
        try:
            self._api.send("POST", f"{self._project}/statuses/{commit}", body)
        except errors.InvalidError as error:
            # GitLab refuses the state that a status has already, and `pending` for one that is running.
            is_repeated = status.state == "pending" or f"from :{_STATES[status.state]}" in error.message
            if "Cannot transition status" not in error.message or not is_repeated:
                raise


def _level(item: api.Item) -> int:
    rights = item.get("permissions") or {}
    return max(int((rights.get(kind) or {}).get("access_level") or 0) for kind in ("project_access", "group_access"))


def _webhook(item: api.Item) -> Webhook:
    # GitLab disables a webhook that fails for a while, or for good.
    status = str(item.get("alert_status") or "executable")
    until = f" until {api.line(item['disabled_until'])}" if item.get("disabled_until") else ""
    problem = f"GitLab has disabled the webhook{until}, because deliveries failed" if status != "executable" else ""
    return Webhook(str(item["id"]), str(item.get("url", "")), status != "disabled", problem)
