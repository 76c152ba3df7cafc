"""Who one is to a registry: what it wants to see, and the tokens that it wants instead of passwords (OCI distribution, token authentication).

A password goes to the registry that asks for one, or to the token service that it names, over https unless the registry speaks plain HTTP.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

import urllib3

from fuseml.steps import references, sdk

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Refused(sdk.StepError):
    """The registry does not do what it was asked to."""


class PassingError(Exception):
    """A failure that may be over soon; `pause` is what the registry asked for, in seconds."""

    def __init__(self, cause: str, pause: float = 0.0) -> None:
        super().__init__(cause)
        self.pause = pause


class Access:
    """The rights that `scopes` names (`repository:team/name:pull`) at the registry at `url`, on behalf of `account`, or of nobody."""

    def __init__(self, pool: urllib3.PoolManager, url: str, account: references.Account | None, scopes: Sequence[str]) -> None:
        self.header: str | None = None
        """What to show; nothing until the registry has asked for something."""
        self._pool = pool
        self._url = url
        self._account = account
        self._scopes = scopes

    def take_up(self, challenges: Sequence[str]) -> bool:
        """Prepare what the registry wants to see; False if there is nothing, or nothing new, to show. Raises Refused and PassingError."""
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                self.header = f"Bearer {self._token(dict(_CHALLENGE.findall(rest)))}"
                return True
            if scheme.lower() == "basic" and self._account is not None and self.header is None:
                self.header = _basic(self._account)
                return True
        return False

    def _token(self, challenge: dict[str, str]) -> str:
        realm, host = challenge.get("realm", ""), urllib.parse.urlsplit(self._url).netloc
        if not realm.startswith(("https://", "http://") if self._url.startswith("http://") else "https://"):
            raise Refused(f"the registry {host} names no token service that can be asked over https")
        answer = self._ask(realm, challenge.get("service", ""), self._scopes or [challenge.get("scope", "")])
        if answer.status == 429 or answer.status >= 500:
            raise PassingError(f"its token service: {answer.status}")
        told = parsed(answer.data)
        token = told.get("token") or told.get("access_token")
        if answer.status != 200 or not token:
            who = f"the account '{self._account.user}'" if self._account is not None else "those without an account"
            raise Refused(f"the token service of the registry {host} refuses {who}: {answer.status} {words(answer.data)}".rstrip())
        return str(token)

    def _ask(self, realm: str, service: str, scopes: Sequence[str]) -> urllib3.BaseHTTPResponse:
        account = self._account
        if account is not None and account.identity:
            form = {"grant_type": "refresh_token", "refresh_token": account.identity, "client_id": "fuseml"}
            body = urllib.parse.urlencode({**form, "service": service, "scope": " ".join(scopes)})
            return self._pool.request("POST", realm, body=body, headers=_FORM, redirect=False)
        fields = [(name, value) for name, value in (("service", service), *(("scope", scope) for scope in scopes)) if value]
        sign = "&" if urllib.parse.urlsplit(realm).query else "?"
        headers = {"Authorization": _basic(account)} if account is not None else {}
        return self._pool.request("GET", realm + sign + urllib.parse.urlencode(fields), headers=headers, redirect=False)


def _basic(account: references.Account) -> str:
    return "Basic " + base64.b64encode(f"{account.user}:{account.password}".encode()).decode()


def parsed(data: bytes) -> dict[str, Any]:
    """A body that is a JSON object; of anything else, nothing."""
    try:
        told = json.loads(data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def words(data: bytes) -> str:
    """The reasons in a registry's error body; of anything else, a page of a proxy for instance, nothing."""
    listed = parsed(data).get("errors")
    found = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
    return "; ".join(": ".join(str(error[key]) for key in ("code", "message") if error.get(key)) for error in found)[:300]
