"""The tools in a user's environment: MLflow's and the AWS SDKs' variables and files, which the caller has read.

The order of precedence is that of the SDKs: variables before files, the credentials file before the configuration file. This module
does not read the environment of its process.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping, Sequence

from fuseml.domain import errors
from fuseml.probes import targets
from fuseml.probes.targets import Target

_MLFLOW = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_ACCOUNT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Variables by the key of the same setting in a profile.
_IN_PROFILES = {**{key.lower(): key for key in _ACCOUNT}, "region": "AWS_REGION", "endpoint_url": "AWS_ENDPOINT_URL"}


def find(variables: Mapping[str, str], credentials_file: str = "", config_file: str = "") -> list[Target]:
    """The MLflow and S3 URLs with their credentials. The files are the texts of `~/.aws/credentials` and `~/.aws/config`.

    URLs that are not http(s) (a folder, a database, `databricks`) are omitted. Raises InvalidError for a malformed file, without quoting it.
    """
    profile = variables.get("AWS_PROFILE") or variables.get("AWS_DEFAULT_PROFILE") or "default"
    sources = (
        variables,
        _section(credentials_file, "~/.aws/credentials", profile),
        _section(config_file, "~/.aws/config", profile if profile == "default" else f"profile {profile}"),
    )
    region = _first(sources, "AWS_REGION") or _first(sources, "AWS_DEFAULT_REGION")
    # All keys of an account come from one source: the token of another account would not match.
    account = next((_select(source, _ACCOUNT) for source in sources if source.get(_ACCOUNT[0]) and source.get(_ACCOUNT[1])), {})
    configuration = {"AWS_DEFAULT_REGION": region} if region else {}
    stores = [variables.get("MLFLOW_S3_ENDPOINT_URL"), _first(sources, "AWS_ENDPOINT_URL_S3") or _first(sources, "AWS_ENDPOINT_URL")]
    if account and not any(stores):
        # An account without an endpoint belongs to AWS itself.
        stores = [f"https://s3.{region or 'us-east-1'}.amazonaws.com"]
    servers = [Target(url, configuration, account) for url in dict.fromkeys(stores) if url]
    tracking = Target(
        variables.get("MLFLOW_TRACKING_URI", ""),
        credentials=_select(variables, _MLFLOW),
        store=next((server for server in servers if targets.is_http(server.url)), None),
    )
    candidates = [tracking, *servers]
    return [target for target in candidates if targets.is_http(target.url)]


def _section(text: str, name: str, section: str) -> Mapping[str, str]:
    """A section of a file, keyed by the names of the variables."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        # The parser's own message quotes the line, which may be a secret.
        raise errors.InvalidError(f"{name} is not a valid AWS configuration file; correct it") from None
    settings = parser[section] if parser.has_section(section) else {}
    return {variable: settings[key] for key, variable in _IN_PROFILES.items() if key in settings}


def _first(sources: Sequence[Mapping[str, str]], key: str) -> str:
    return next((source[key] for source in sources if source.get(key)), "")


def _select(values: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    return {key: values[key] for key in keys if values.get(key)}
