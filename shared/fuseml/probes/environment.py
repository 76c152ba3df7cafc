"""The tools that a person's shell is set up for, from variables and files that somebody else has read.

The variables are MLflow's and the AWS SDKs', with the SDKs' order of precedence: variables before files, the credentials file
before the configuration file. Nothing here reads the environment of its own process.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping, Sequence

from fuseml.domain import errors
from fuseml.probes import targets
from fuseml.probes.targets import Target

_MLFLOW = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_ACCOUNT = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# Variables by the name that a profile gives to the same thing.
_IN_PROFILES = {**{key.lower(): key for key in _ACCOUNT}, "region": "AWS_REGION", "endpoint_url": "AWS_ENDPOINT_URL"}


def find(variables: Mapping[str, str], credentials_file: str = "", config_file: str = "") -> list[Target]:
    """MLflow and S3 addresses with their credentials. The files are the texts of `~/.aws/credentials` and `~/.aws/config`.

    Addresses that are not http(s) (a folder, a database, `databricks`) are no tools to register. Raises InvalidError for a file that
    cannot be read, without quoting it.
    """
    profile = variables.get("AWS_PROFILE") or variables.get("AWS_DEFAULT_PROFILE") or "default"
    sources = (
        variables,
        _section(credentials_file, "~/.aws/credentials", profile),
        _section(config_file, "~/.aws/config", profile if profile == "default" else f"profile {profile}"),
    )
    region = _first(sources, "AWS_REGION") or _first(sources, "AWS_DEFAULT_REGION")
    # An account comes from one source as a whole: a token of another one would not fit.
    account = next((_some(source, _ACCOUNT) for source in sources if source.get(_ACCOUNT[0]) and source.get(_ACCOUNT[1])), {})
    configuration = {"AWS_DEFAULT_REGION": region} if region else {}
    stores = [variables.get("MLFLOW_S3_ENDPOINT_URL"), _first(sources, "AWS_ENDPOINT_URL_S3") or _first(sources, "AWS_ENDPOINT_URL")]
    if account and not any(stores):
        # An account without an address is one of Amazon's own.
        stores = [f"https://s3.{region or 'us-east-1'}.amazonaws.com"]
    found = [Target(variables.get("MLFLOW_TRACKING_URI", ""), credentials=_some(variables, _MLFLOW))]
    found += [Target(url, configuration, account) for url in dict.fromkeys(stores) if url]
    return [target for target in found if targets.askable(target.url)]


def _section(text: str, name: str, section: str) -> Mapping[str, str]:
    """A section of a file, under the names of the variables."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        # The parser's own message quotes the line, which may be a secret.
        raise errors.InvalidError(f"{name} is not a file that AWS tools can read; correct it") from None
    said = parser[section] if parser.has_section(section) else {}
    return {variable: said[key] for key, variable in _IN_PROFILES.items() if key in said}


def _first(sources: Sequence[Mapping[str, str]], key: str) -> str:
    return next((source[key] for source in sources if source.get(key)), "")


def _some(known: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    return {key: known[key] for key in keys if known.get(key)}
