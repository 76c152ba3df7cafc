"""Logs, traces and metrics of a running function, configured once a process.

None may carry a secret: logs name events and causes, never data; labels of metrics come from bounded sets.
"""

from __future__ import annotations

import logging

from fuseml.domain import errors
from fuseml.runtime.settings import Settings
from fuseml.runtime.telemetry import logs, trace

_log = logging.getLogger("fuseml.telemetry")


def configure(service: str, settings: Settings) -> None:
    """Logs of a function go to its standard error, spans to `OTEL_EXPORTER_OTLP_ENDPOINT` if it is set. Raises PermanentError."""
    logs.to_stderr(settings.log_format or "json")
    export(service, settings.otlp_endpoint)


def export(service: str, endpoint: str) -> None:
    """Send spans by OTLP to `endpoint`; none if it is empty. Without the packages of OpenTelemetry one warning is logged and none are
    sent: a function works without observers.
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
