"""Names of FuseML on the objects of engines and serving tools: labels, annotations, and the prefix of tasks that are no steps."""

from __future__ import annotations

RUN_LABEL = "fuseml.io/run-id"
NAME_LABEL = "fuseml.io/run"
TRACE_ANNOTATION = "fuseml.io/traceparent"
"""The W3C traceparent of the cause of the run: events of its engine carry none of their own."""

AUXILIARY_PREFIX = "fuseml-"
"""Tasks that an engine adds on its own (clone, build preparation) carry names that begin so; no step can have one."""
