"""Model servers of the Open Inference Protocol (KServe, Triton, MLServer, FuseML's own), recognised by their server metadata."""

from __future__ import annotations

import re

from fuseml.domain.registry import extension
from fuseml.probes import draft, tool
from fuseml.probes.targets import Target

_PRODUCT = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")


def _detect(target: Target) -> extension.Extension | None:
    answer = target.get("/v2")
    name, extensions = answer.fields.get("name"), answer.fields.get("extensions")
    if answer.status != 200 or not isinstance(name, str) or not isinstance(extensions, list):
        return None
    product = name.lower() if _PRODUCT.fullmatch(name.lower()) else "inference-server"
    server = draft.service(target, "inference", "open-inference", "prediction-serving")
    return draft.record(product, draft.version(answer.fields.get("version")), "Model server of the Open Inference Protocol", server)


TOOL = tool.Tool(detect=_detect)
