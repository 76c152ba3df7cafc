"""Random registries, selectors and consumers for property tests; few names, so that many match.

A seed and a size generate a registry: hypothesis draws two numbers only, and shrinks the size.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import strategies as st

from fuseml.domain.registry import extension, selector

ZONES = ["", "here", "there"]
VERSIONS = ["", "1.0", "v1.0.0", "1.10.0", "2.0.0-rc.1", "2.0", "nightly", "RELEASE.2021-06-17"]
CONSTRAINTS = ["1.x", ">=1.0", "~1.10.0", "<1.5 || >=2.0-0", ">=2.0-0", "nightly", "*", "!=1.0", "1.0", ">3"]
NAMES = ["alpha", "beta", ""]
UNHEALTHY = {"health": {"state": "unhealthy", "since": "2026-01-01T12:00:00Z"}}

_seeds = st.integers(0, 1 << 32)


def _some(source: random.Random, most: int, *keys: str) -> list[str]:
    return source.sample(keys, min(len(keys), source.randint(0, most)))


def _status(source: random.Random) -> dict[str, Any]:
    return UNHEALTHY if source.random() < 0.2 else {}


def _service(source: random.Random, id: str) -> dict[str, Any]:
    endpoints = [
        {
            "url": url,
            "type": source.choice(["internal", "external"]),
            "configuration": dict.fromkeys(_some(source, 2, "K", "L"), "endpoint"),
            "status": _status(source),
        }
        for url in _some(source, 2, "http://a", "http://b", "http://c")
    ]
    credentials = [
        {
            "id": name,
            "scope": source.choice(["global", "project", "user"]),
            "projects": _some(source, 2, *NAMES),
            "users": _some(source, 2, *NAMES),
            "default": source.random() < 0.3,
            "configuration": dict.fromkeys(_some(source, 2, "K", "M"), extension.HIDDEN if source.random() < 0.1 else "secret"),
            "status": _status(source),
        }
        for name in _some(source, 3, "a", "b", "c", "d")
    ]
    return {
        "id": id,
        "resource": source.choice(["s3", "s3", "git"]),
        "category": source.choice(["store", "store", "VCS"]),
        "auth_required": source.random() < 0.4,
        "configuration": dict.fromkeys(_some(source, 2, "K", "N"), "service"),
        "endpoints": endpoints,
        "credentials": credentials,
    }


def record(source: random.Random, id: str) -> extension.Extension:
    """A record of up to two services."""
    data = {
        "id": id,
        "product": source.choice(["minio", "minio", "gitea"]),
        "version": source.choice(VERSIONS),
        "zone": source.choice(ZONES),
        "revision": source.randint(1, 3),
        "configuration": dict.fromkeys(_some(source, 1, "K", "O"), "extension"),
        "services": [_service(source, name) for name in _some(source, 2, "s", "t")],
    }
    return extension.Extension.model_validate(data)


def registry(seed: int, size: int) -> list[extension.Extension]:
    """`size` records in random order."""
    source = random.Random(seed)
    return [record(source, f"e{number}") for number in source.sample(range(size), size)]


def _selector(seed: int) -> selector.Selector:
    source = random.Random(seed)
    criteria = {
        "extension_id": source.choice(["e0", "e1", "e2"]) if source.random() < 0.1 else "",
        "product": "minio" if source.random() < 0.3 else "",
        "zone": source.choice(ZONES[1:]) if source.random() < 0.2 else "",
        "service_id": "s" if source.random() < 0.2 else "",
        "service_resource": "s3" if source.random() < 0.5 else "",
        "service_category": "store" if source.random() < 0.3 else "",
        "version": source.choice(CONSTRAINTS) if source.random() < 0.4 else "",
        "healthy": source.choice([None, None, True, False]),
        "ambiguity": "error" if source.random() < 0.2 else "first",
    }
    return selector.Selector.model_validate({"name": "wanted", **criteria})


registries = st.builds(registry, _seeds, st.integers(0, 25))
records = st.builds(lambda seed, number: record(random.Random(seed), f"e{number}"), _seeds, st.integers(0, 30))
selectors = _seeds.map(_selector)
contexts = st.builds(
    lambda project, user, zone: selector.Context(project=project, user=user, zone=zone),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from(ZONES),
)
homes = st.sampled_from(["", "", "here"])
