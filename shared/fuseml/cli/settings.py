"""Settings of the command: those of a client, and those of `fuseml up`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fuseml.client import settings
from fuseml.domain import errors

_YES, _NO = ("1", "t", "true", "yes", "on"), ("0", "f", "false", "no", "off")


@dataclass(frozen=True)
class CliSettings(settings.ClientSettings):
    """Settings from flags and environment variables; empty where not given."""

    verbose: bool = False
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

    @staticmethod
    def from_env(environment: Mapping[str, str]) -> CliSettings:
        """Read the settings. Raises InvalidError for a value that cannot be used."""
        return CliSettings(
            **settings.values(environment),
            verbose=_flag(environment, "FUSEML_VERBOSE"),
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
        )


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
