"""What can be seen of a running function: logs, traces and metrics. Configured here, once a process.

Nothing of it may carry a secret: logs name events and causes, never data; labels of metrics come from bounded sets.
"""

from __future__ import annotations

import logging

from fuseml.domain import errors
from fuseml.runtime.settings import Settings
from fuseml.runtime.telemetry import logs, trace

_log = logging.getLogger("fuseml.telemetry")


def configure(service: str, settings: Settings) -> None:
    """Logs of a function go to its standard error. Spans go out where `OTEL_EXPORTER_OTLP_ENDPOINT` says so. Raises PermanentError."""
    logs.to_stderr(settings.log_format or "json")
    export(service, settings.otlp_endpoint)


def export(service: str, endpoint: str) -> None:
    """Send spans by OTLP to `endpoint`; none where it is empty. Without the packages for it one warning is logged and none are sent:
    a function must not stand still because nobody can watch it.
    """
    if not endpoint:
        return
    try:
        from fuseml.runtime.telemetry import otlp
    except ImportError as error:
        _log.warning(
            "no spans are sent: OTEL_EXPORTER_OTLP_ENDPOINT is set and %s is not installed; install fuseml[telemetry], or unset it",
            error.name,
        )
        return
    try:
        trace.record_with(otlp.Exporter(service, endpoint))
    except ValueError as error:
        raise errors.PermanentError(f"OTEL_EXPORTER_OTLP_ENDPOINT or another OTEL_ setting is wrong: {error}") from error
