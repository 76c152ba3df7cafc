"""Authentication at an image registry: basic, or by the tokens of its token service (OCI distribution, token authentication).

A password goes only to the registry that challenges for one, or to its token service, over https unless the registry speaks plain HTTP.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import urllib.parse
from collections.abc import Sequence
from typing import Any

import urllib3

from fuseml.steps import references, sdk

# Bytes of the answer of a token service; a longer one is no token.
_LARGEST = 1 << 20
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_CHALLENGE = re.compile(r'(?<!\w)(\w++)="([^"]*)"')


class RefusalError(sdk.StepError):
    """The registry refuses a request."""


class TransientError(Exception):
    """A failure that a retry may resolve; `pause` is the delay that the registry requested, in seconds."""

    def __init__(self, cause: str, pause: float = 0.0) -> None:
        super().__init__(cause)
        self.pause = pause


class Access:
    """Authorisation at the registry at `url` for `scopes` (`repository:team/name:pull`), as `account`, or anonymous."""

    def __init__(self, pool: urllib3.PoolManager, url: str, account: references.Account | None, scopes: Sequence[str]) -> None:
        self.header: str | None = None
        """The Authorization header; None until the registry has sent a challenge."""
        self._pool = pool
        self._url = url
        self._account = account
        self._scopes = scopes

    def answer(self, challenges: Sequence[str]) -> bool:
        """Set `header` for one of the challenges; False if none can be answered, or only as before. Raises RefusalError and TransientError."""
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
            raise RefusalError(f"the registry {host} names no token service with an https URL")
        answer = self._request(realm, challenge.get("service", ""), self._scopes or [challenge.get("scope", "")])
        with contextlib.closing(answer):
            data = answer.read(_LARGEST)
        if answer.status == 429 or answer.status >= 500:
            raise TransientError(f"its token service: {answer.status}")
        document = parsed(data)
        token = document.get("token") or document.get("access_token")
        if answer.status != 200 or not token:
            who = f"the account '{self._account.user}'" if self._account is not None else "anonymous access"
            raise RefusalError(f"the token service of the registry {host} refuses {who}: {answer.status} {reasons(data)}".rstrip())
        return str(token)

    def _request(self, realm: str, service: str, scopes: Sequence[str]) -> urllib3.BaseHTTPResponse:
        account = self._account
        if account is not None and account.identity:
            form = {"grant_type": "refresh_token", "refresh_token": account.identity, "client_id": "fuseml"}
            body = urllib.parse.urlencode({**form, "service": service, "scope": " ".join(scopes)})
            return self._pool.request("POST", realm, body=body, headers=_FORM, redirect=False, preload_content=False)
        fields = [(name, value) for name, value in (("service", service), *(("scope", scope) for scope in scopes)) if value]
        sign = "&" if urllib.parse.urlsplit(realm).query else "?"
        headers = {"Authorization": _basic(account)} if account is not None else {}
        address = realm + sign + urllib.parse.urlencode(fields)
        return self._pool.request("GET", address, headers=headers, redirect=False, preload_content=False)


def _basic(account: references.Account) -> str:
    return "Basic " + base64.b64encode(f"{account.user}:{account.password}".encode()).decode()


def parsed(data: bytes) -> dict[str, Any]:
    """A body that is a JSON object; any other body is an empty one."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def reasons(data: bytes) -> str:
    """The reasons in a registry's error body; empty for any other body, such as a proxy's page."""
    listed = parsed(data).get("errors")
    refusals = [error for error in listed if isinstance(error, dict)] if isinstance(listed, list) else []
    return "; ".join(": ".join(str(error[key]) for key in ("code", "message") if error.get(key)) for error in refusals)[:300]
