"""The model's files as a tool fetches them itself: their place, and the S3 account that opens it."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from fuseml.domain import errors
from fuseml.domain.application import Application

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True, slots=True)
class S3Account:
    """An account at an S3 server. `endpoint` is its URL, empty for Amazon's. `token` belongs to temporary credentials."""

    key_id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    endpoint: str = ""
    region: str = ""
    verified: bool = True

    @property
    def host(self) -> str:
        """The endpoint without its scheme."""
        return urllib.parse.urlsplit(self.endpoint).netloc

    @property
    def secure(self) -> bool:
        """Whether the endpoint is called with TLS."""
        return not self.endpoint.startswith("http://")


def s3_account(environment: Mapping[str, str]) -> S3Account | None:
    """The account that the variables of S3 clients describe; None without keys."""
    key_id, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    if not (key_id and secret):
        return None
    return S3Account(
        key_id=key_id,
        secret=secret,
        token=environment.get("AWS_SESSION_TOKEN", ""),
        endpoint=_first(environment, _ENDPOINTS).rstrip("/"),
        region=_first(environment, _REGIONS),
        verified=environment.get("MLFLOW_S3_IGNORE_TLS", "").lower() not in ("true", "1"),
    )


def is_temporary(environment: Mapping[str, str]) -> bool:
    """Whether the account ends by itself. A sealed variable counts as one with a value."""
    return bool(environment.get("AWS_SESSION_TOKEN"))


def place(document: Application, tool: str, schemes: Collection[str]) -> str:
    """The address of the model's files, which `tool` fetches by one of the `schemes`. Raises InvalidError."""
    address = document.location or document.model or ""
    scheme = urllib.parse.urlsplit(address).scheme
    if scheme in schemes:
        return address
    raise errors.InvalidError(
        f"application {document.name!r} cannot be served by {tool}, which fetches the files of a model itself: {address!r} is no address of "
        f"{', '.join(f'{item}://' for item in schemes)}; let the tracking server keep its artifacts in such a store (mlflow server "
        "--no-serve-artifacts), or let the step's selector for prediction-serving resolve to fuseml-serving"
    )


def encoded(values: Mapping[str, str]) -> dict[str, str]:
    """The `data` of a Secret. Keys of `stringData` would stay when they are no longer applied."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items() if value}


def rclone(account: S3Account, remote: str = "s3") -> dict[str, str]:
    """The variables that define the remote of rclone."""
    parameters = {"type": "s3", **_rclone_parameters(account)}
    return {f"RCLONE_CONFIG_{remote.upper()}_{key.upper()}": value for key, value in parameters.items() if value}


def rclone_document(account: S3Account, remote: str = "s3") -> str:
    """The definition of the remote as Seldon Core 2 reads it from a Secret."""
    parameters = {key: value for key, value in _rclone_parameters(account).items() if value}
    return json.dumps({"type": "s3", "name": remote, "parameters": parameters}, sort_keys=True)


def clients(account: S3Account) -> dict[str, str]:
    """The variables of S3 clients in Python, and those of the storage initializers of KServe and Seldon."""
    return {
        "AWS_ACCESS_KEY_ID": account.key_id,
        "AWS_SECRET_ACCESS_KEY": account.secret,
        "AWS_SESSION_TOKEN": account.token,
        "AWS_ENDPOINT_URL": account.endpoint,
        "AWS_DEFAULT_REGION": account.region,
        "S3_USE_HTTPS": "1" if account.secure else "0",
        "S3_VERIFY_SSL": "1" if account.verified else "0",
    }


def _rclone_parameters(account: S3Account) -> dict[str, str]:
    return {
        "provider": "Other" if account.endpoint else "AWS",
        "env_auth": "false",
        "access_key_id": account.key_id,
        "secret_access_key": account.secret,
        "session_token": account.token,
        "endpoint": account.endpoint,
        "region": account.region,
    }


def _first(environment: Mapping[str, str], names: Collection[str]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")
