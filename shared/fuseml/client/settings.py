"""Settings of a client: from arguments, environment variables, the configuration file and the home of a local server."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from fuseml.client import configuration, server_urls
from fuseml.domain import errors, urls

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 30.0


class Values(TypedDict):
    """The settings that environment variables give."""

    url: str
    token: str
    home: str
    config: str
    project: str
    codeset: str
    timeout: float
    push_user: str
    push_password: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class ClientSettings:
    """Settings from arguments and environment variables; empty where not given. `timeout` is in seconds. An argument has chosen what `is_chosen`."""

    url: str = ""
    token: str = field(default="", repr=False)
    home: str = ""
    home_is_chosen: bool = False
    url_is_chosen: bool = False
    token_is_chosen: bool = False
    config: str = ""
    project: str = ""
    codeset: str = ""
    timeout: float = DEFAULT_TIMEOUT
    push_user: str = ""
    push_password: str = field(default="", repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def home_folder(self) -> Path:
        """The folder of a local server's state."""
        if self.home:
            return Path(self.home)
        import platformdirs

        return Path(platformdirs.user_data_dir("fuseml"))

    def config_file(self) -> Path:
        """The file of `fuseml config set`, `project set` and `codeset set`: that of `--config-file` or FUSEML_CONFIG, else the user's."""
        return Path(self.config) if self.config else configuration.default_file(self.environment)

    def configured(self) -> Mapping[str, str]:
        """The entries of the configuration file. Raises InvalidError when it is not a YAML or JSON object."""
        return {name: str(value) for name, value in self._entries().items()}

    def configure(self, changes: Mapping[str, str]) -> Path:
        """Change entries of the configuration file; an empty value removes one. Returns the file, which only the user can read."""
        file = self.config_file()
        entries = {**self._entries(), **changes}
        configuration.write(file, {name: value for name, value in entries.items() if value != ""})
        if not self.config:
            # Its entries are in the new file, a token among them.
            configuration.former_file(self.environment).unlink(missing_ok=True)
        return file

    def _entries(self) -> Mapping[str, object]:
        former = {} if self.config else configuration.read(configuration.former_file(self.environment))
        return {**former, **configuration.read(self.config_file())}

    def current_project(self) -> str:
        """The project of commands that name none: FUSEML_PROJECT, else that of the configuration file; empty without one."""
        return self.project or self.configured().get("project", "")

    def current_codeset(self) -> str:
        """The codeset of commands that name none: FUSEML_CODESET, else that of the configuration file; empty without one."""
        return self.codeset or self.configured().get("codeset", "")

    def git_account(self) -> tuple[str, str]:
        """User and password for the git host: FUSEML_PROJECT_USER and FUSEML_PROJECT_PASSWORD, else those of the configuration file."""
        configured = self.configured()
        return self.push_user or configured.get("user", ""), self.push_password or configured.get("password", "")

    def server_url(self) -> str:
        """The first of: flag `--url`, flag `--home`, FUSEML_SERVER_URL, configuration file, URL file of the local server, default.

        An account in it is left out. Raises NotFoundError if no server runs with the home of the flag, InvalidError for a user without
        password.
        """
        bare, user, password = urls.split(self._address())
        if user and not password:
            raise errors.InvalidError(
                "the server's URL has a user without a password; write the token as password, http://any:TOKEN@HOST, or set FUSEML_TOKEN"
            )
        return bare

    def _address(self) -> str:
        if self.home_is_chosen and not self.url_is_chosen:
            url = configuration.text_of(self.home_folder() / "url")
            if not url:
                raise errors.NotFoundError(f"no server runs with the home {self.home}; `fuseml up --home {self.home}` starts one")
            return url
        return self.url or self.configured().get("url", "") or self._local_url()

    def access_token(self) -> str | None:
        """The token for `server_url`. The first of: a chosen token, the password in a given URL, FUSEML_TOKEN, the configured one, the local one.

        A configured token and that of a local server are used only for their own server.
        """
        if self.token_is_chosen:
            return self.token
        if password := urls.split(self.url)[2]:
            return password
        url, _, password = urls.split(self._address())
        if self.home_is_chosen and not self.url_is_chosen:
            # FUSEML_TOKEN may be for another server.
            return configuration.text_of(self.home_folder() / "token") or self.token or None
        if self.token or password:
            return self.token or password
        configured = self.configured()
        if configured.get("token") and _same(url, configured.get("url", "")):
            return configured["token"]
        if _same(url, self._local_url()):
            return configuration.text_of(self.home_folder() / "token") or None
        return None

    def token_origin(self) -> str:
        """The place that `access_token` is from."""
        token = self.access_token()
        if not token:
            return "none"
        if token == self.token:
            return "--token" if self.token_is_chosen else "FUSEML_TOKEN"
        if token == urls.split(self._address())[2]:
            return "the server's URL"
        from_file = token == self.configured().get("token") and not self.home_is_chosen
        return str(self.config_file() if from_file else self.home_folder() / "token")

    def _local_url(self) -> str:
        return configuration.text_of(self.home_folder() / "url") or DEFAULT_URL


def values(environment: Mapping[str, str]) -> Values:
    """The settings of environment variables. Raises InvalidError when the timeout is not a positive number of seconds."""
    timeout = environment.get("FUSEML_HTTP_TIMEOUT", "") or str(DEFAULT_TIMEOUT)
    try:
        seconds = float(timeout)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise errors.InvalidError(f"FUSEML_HTTP_TIMEOUT is {timeout!r}; set it to a positive number of seconds")
    return {
        "url": environment.get("FUSEML_SERVER_URL", ""),
        "token": environment.get("FUSEML_TOKEN", ""),
        "home": environment.get("FUSEML_HOME", ""),
        "config": environment.get("FUSEML_CONFIG", ""),
        "project": environment.get("FUSEML_PROJECT", ""),
        "codeset": environment.get("FUSEML_CODESET", ""),
        "timeout": seconds,
        "push_user": environment.get("FUSEML_PROJECT_USER", ""),
        "push_password": environment.get("FUSEML_PROJECT_PASSWORD", ""),
        "environment": environment,
    }


def _same(one: str, other: str) -> bool:
    """Whether both are the URL of one server, as far as the spelling shows it."""
    try:
        return bool(other) and server_urls.normal(one) == server_urls.normal(other)
    except errors.InvalidError:
        return False
