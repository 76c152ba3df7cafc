"""Settings of the command: from flags, environment variables, the configuration file and the home of a local server."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuseml.cli import configuration
from fuseml.domain import errors

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT = 30.0

_YES, _NO = ("1", "t", "true", "yes", "on"), ("0", "f", "false", "no", "off")


@dataclass(frozen=True)
class CliSettings:
    """Settings from flags and environment variables; empty where not given. `timeout` is in seconds. A flag has chosen what `is_chosen`."""

    url: str = ""
    token: str = field(default="", repr=False)
    home: str = ""
    home_is_chosen: bool = False
    url_is_chosen: bool = False
    config: str = ""
    project: str = ""
    codeset: str = ""
    verbose: bool = False
    timeout: float = DEFAULT_TIMEOUT
    push_user: str = ""
    push_password: str = field(default="", repr=False)
    public_url: str = ""
    log_format: str = ""
    log_megabytes: int = 10
    log_files: int = 5
    otlp_endpoint: str = ""
    step_paths: tuple[str, ...] = ()
    step_variables: tuple[str, ...] = ()
    step_log_limit: str = ""
    step_disk_limit: str = ""
    step_confinement: str = ""
    devices: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @staticmethod
    def from_env(environment: Mapping[str, str]) -> CliSettings:
        """Read the settings. Raises InvalidError when the timeout is not a positive number of seconds."""
        timeout = environment.get("FUSEML_HTTP_TIMEOUT", "") or str(DEFAULT_TIMEOUT)
        try:
            seconds = float(timeout)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < math.inf:
            raise errors.InvalidError(f"FUSEML_HTTP_TIMEOUT is {timeout!r}; set it to a positive number of seconds")
        return CliSettings(
            url=environment.get("FUSEML_SERVER_URL", ""),
            token=environment.get("FUSEML_TOKEN", ""),
            home=environment.get("FUSEML_HOME", ""),
            config=environment.get("FUSEML_CONFIG", ""),
            project=environment.get("FUSEML_PROJECT", ""),
            codeset=environment.get("FUSEML_CODESET", ""),
            verbose=_flag(environment, "FUSEML_VERBOSE"),
            timeout=seconds,
            push_user=environment.get("FUSEML_PROJECT_USER", ""),
            push_password=environment.get("FUSEML_PROJECT_PASSWORD", ""),
            public_url=environment.get("FUSEML_PUBLIC_URL", ""),
            log_format=environment.get("FUSEML_LOG_FORMAT", ""),
            log_megabytes=_number(environment, "FUSEML_LOG_MEGABYTES", 10, least=1),
            log_files=_number(environment, "FUSEML_LOG_FILES", 5, least=1),
            otlp_endpoint=environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
            step_paths=_list(environment.get("FUSEML_STEP_PATHS", "")),
            step_variables=_list(environment.get("FUSEML_STEP_ENV", "")),
            step_log_limit=environment.get("FUSEML_STEP_LOG_LIMIT", ""),
            step_disk_limit=environment.get("FUSEML_STEP_DISK_LIMIT", ""),
            step_confinement=environment.get("FUSEML_STEP_CONFINEMENT", ""),
            devices=tuple(environment.get("FUSEML_DEVICES", "").split()),
            environment=environment,
        )

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
            configuration.former_file().unlink(missing_ok=True)
        return file

    def _entries(self) -> Mapping[str, object]:
        file = self.config_file()
        return configuration.read(file if self.config or file.exists() else configuration.former_file())

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

        Raises NotFoundError if no server runs with the home of the flag.
        """
        if self.home_is_chosen and not self.url_is_chosen:
            url = configuration.text_of(self.home_folder() / "url")
            if not url:
                raise errors.NotFoundError(f"no server runs with the home {self.home}; `fuseml up --home {self.home}` starts one")
            return url
        return self.url or self.configured().get("url", "") or self._local_url()

    def access_token(self) -> str | None:
        """The token for `server_url`. A configured token and that of a local server are used only for their own server."""
        url = self.server_url()
        if self.home_is_chosen and not self.url_is_chosen:
            # FUSEML_TOKEN may be for another server.
            return configuration.text_of(self.home_folder() / "token") or self.token or None
        if self.token:
            return self.token
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
            return "--token or FUSEML_TOKEN"
        from_file = token == self.configured().get("token") and not self.home_is_chosen
        return str(self.config_file() if from_file else self.home_folder() / "token")

    def _local_url(self) -> str:
        return configuration.text_of(self.home_folder() / "url") or DEFAULT_URL


def _flag(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").lower()
    if text not in ("", *_YES, *_NO):
        raise errors.InvalidError(f"{name} is {text[:40]!r}; set it to true or false")
    return text in _YES


def _number(environment: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environment.get(name, "") or str(default)
    if not (text.isascii() and text.isdigit() and least <= int(text[:9]) and len(text) < 9):
        raise errors.InvalidError(f"{name} is {text!r}; set it to a whole number from {least}")
    return int(text)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _same(one: str, other: str) -> bool:
    return bool(other) and one.rstrip("/") == other.rstrip("/")
