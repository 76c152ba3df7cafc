"""SLSA provenance v1 of an artifact: an in-toto statement on the run that made it. It holds no value of a secret: plans have none."""

from __future__ import annotations

import json
import re
import urllib.parse
from typing import Any

from fuseml.domain import errors, urls
from fuseml.domain.lineage.record import ArtifactRecord, RunRecord, checkouts, consumed, texts

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "https://fuseml.org/provenance/run/v1"
"""The build type: a run of a workflow. docs/lineage.md describes its parameters."""
PAYLOAD = "application/vnd.in-toto+json"

_HEX = re.compile(r"[0-9a-f]+")
_PINNED = re.compile(r"@([a-z0-9]+):([0-9a-f]{32,})$")

Document = dict[str, Any]


def statement(made: ArtifactRecord, run: RunRecord, *, builder: str, version: str) -> Document:
    """The statement on `made`, an artifact of `run`. `builder` is the URI of this server, `version` that of FuseML.

    Raises ConflictError for an artifact without a digest, to which no statement can be bound.
    """
    digest = digest_set(made.digest)
    if not digest:
        raise errors.ConflictError(
            f"{made.address} has no digest in hex, such as sha256:..., so no provenance can be bound to its contents"
        )
    base = builder.rstrip("/")
    invocation = f"{base}/runs/{run.name}"
    return {
        "_type": STATEMENT,
        "subject": [{"name": made.address, "digest": digest}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": _parameters(run),
                "internalParameters": {"step": made.step, "tools": _tools(run)},
                "resolvedDependencies": _dependencies(run),
            },
            "runDetails": {
                "builder": {"id": base, "version": {"fuseml": version}},
                "metadata": {
                    "invocationId": invocation,
                    **({"startedOn": run.started} if run.started else {}),
                    **({"finishedOn": run.finished} if run.finished else {}),
                },
            },
        },
    }


def encoded(document: Document) -> bytes:
    """The bytes of a statement: equal statements have equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest_set(digest: str | None) -> dict[str, str]:
    """A digest `algorithm:hex` as in-toto writes it; empty for another form."""
    algorithm, _, value = (digest or "").partition(":")
    return {algorithm: value} if _HEX.fullmatch(value) else {}


def _parameters(run: RunRecord) -> Document:
    given: Document = {
        "workflow": run.workflow,
        "revision": run.revision,
        "project": run.project,
        "inputs": dict(run.plan.inputs if run.plan else run.inputs),
    }
    if run.codeset:
        given["codeset"] = {"name": run.codeset, "ref": run.ref, "commit": run.commit}
    return given


def _tools(run: RunRecord) -> list[Document]:
    """The bindings of the run, each once."""
    found: dict[str, Document] = {}
    for item in run.plan.bindings if run.plan else ():
        binding = item.binding
        tool = {"name": binding.name, "extension": binding.extension_id, "service": binding.service_id}
        tool |= {"product": binding.product, "version": binding.version, "url": urls.shown(binding.url)}
        found[json.dumps(tool, sort_keys=True)] = {"step": item.step, **tool}
    return list(found.values())


def _dependencies(run: RunRecord) -> list[Document]:
    code = [_code(address, item.url, item.ref, item.commit) for address, item in checkouts(run).items()]
    if run.code and not code:
        code = [_code(run.code, run.repository, run.ref or "", run.commit or "")]
    known = {item["name"] for item in code}
    data = [_resource(run.of(address)) for address in consumed(run) if address not in known]
    return [*code, *data, *_images(run)]


def _code(address: str, url: str, ref: str, commit: str) -> Document:
    place = urls.shown(url) or address
    at = f"@{urllib.parse.quote(ref)}" if ref else ""
    return {"name": address, "uri": f"git+{place}{at}" if url else address, "digest": {"gitCommit": commit}}


def _resource(item: ArtifactRecord) -> Document:
    digest = digest_set(item.digest)
    return {"name": item.address, "uri": item.address} | ({"digest": digest} if digest else {})


def _images(run: RunRecord) -> list[Document]:
    found: dict[str, list[str]] = {}
    for step, places in texts(run).items():
        if places.get("image"):
            found.setdefault(places["image"], []).append(step)
    resources: list[Document] = []
    for image, steps in found.items():
        pinned = _PINNED.search(image)
        resources.append(
            {
                "name": f"image of {', '.join(steps)}",
                "uri": image,
                **({"digest": {pinned[1]: pinned[2]}} if pinned else {}),
            }
        )
    return resources
