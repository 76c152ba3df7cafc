"""Labels and annotations of FuseML on the objects of engines and serving tools, and the prefix of auxiliary tasks."""

from __future__ import annotations

RUN_LABEL = "fuseml.io/run-id"
NAME_LABEL = "fuseml.io/run"
TRACE_ANNOTATION = "fuseml.io/traceparent"
"""The W3C traceparent of the cause of the run: events of the engine carry no trace of their own."""

AUXILIARY_PREFIX = "fuseml-"
"""The prefix of tasks that an engine adds to the steps (clone, build preparation); no step has such a name."""
