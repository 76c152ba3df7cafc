"""The bytes of a layer, and the documents of an image with one more."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseml.steps import layers, sdk

NAME = st.text("abz.Ä _-", min_size=1, max_size=60).filter(lambda name: name not in (".", ".."))
TREE = st.dictionaries(NAME, st.one_of(st.binary(max_size=40), st.dictionaries(NAME, st.binary(max_size=40), max_size=3)), max_size=4)


def packed(folder: Path) -> tuple[layers.Layer, bytes]:
    file = io.BytesIO()
    return layers.pack(folder, "/opt/it", file), file.getvalue()


def plant(folder: Path, tree: Any, time: int, *, backwards: bool) -> None:
    folder.mkdir(mode=0o700)
    for name, content in sorted(tree.items(), reverse=backwards):
        if isinstance(content, dict):
            plant(folder / name, content, time, backwards=backwards)
        else:
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
        os.utime(folder / name, (time, time))


@given(tree=TREE, time=st.integers(1, 2**31))
@settings(max_examples=50)
def test_the_same_content_is_the_same_layer_whenever_and_wherever_it_was_made(tree: Any, time: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        one, other = Path(scratch, "one"), Path(scratch, "other")
        plant(one, tree, time, backwards=False)
        plant(other, tree, 1, backwards=True)
        layer, data = packed(one)
        assert (layer, data) == packed(other)
    content = gzip.decompress(data)
    assert layer == layers.Layer(layers.Blob(layers.digest(data), len(data)), layers.digest(content))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        found = {entry.name.removeprefix("opt/it").removeprefix("/"): entry for entry in archive.getmembers()}
        for name, given in tree.items():
            for path, expected in (
                {f"{name}/{inner}": more for inner, more in given.items()}.items() if isinstance(given, dict) else [(name, given)]
            ):
                kept = archive.extractfile(found[path])
                assert kept is not None
                assert kept.read() == expected
    assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in found.values()} == {(0, 0, "", "", 0)}


def test_what_an_entry_is_stays_and_links_within_stay_within(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "run").write_text("#!/bin/sh\n")
    (folder / "bin" / "run").chmod(0o700)
    (folder / "bin" / "same").hardlink_to(folder / "bin" / "run")
    for name, target in {"near": "run", "inside": str(folder / "bin" / "run"), "outside": "/usr/bin/python3", "all": str(folder)}.items():
        (folder / "bin" / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    with tarfile.open(fileobj=io.BytesIO(packed(folder)[1])) as archive:
        found = {entry.name: (entry.mode, entry.type, entry.linkname) for entry in archive}
    link = (0o777, tarfile.SYMTYPE)
    assert found == {
        "opt/it": (0o755, tarfile.DIRTYPE, ""),
        "opt/it/bin": (0o755, tarfile.DIRTYPE, ""),
        "opt/it/bin/run": (0o755, tarfile.REGTYPE, ""),
        "opt/it/bin/same": (0o755, tarfile.REGTYPE, ""),
        "opt/it/bin/near": (*link, "run"),
        "opt/it/bin/inside": (*link, "/opt/it/bin/run"),
        "opt/it/bin/outside": (*link, "/usr/bin/python3"),
        "opt/it/bin/all": (*link, "/opt/it"),
    }


LAYER = layers.Layer(layers.Blob("sha256:new", 7), "sha256:unpacked")
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": layers.OCI_MANIFEST,
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:config", "size": 3},
    "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": "sha256:old", "size": 5}],
    "annotations": {"about": "the other image"},
}
CONFIGURATION = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2026-11-01T00:00:00Z",
    "config": {"Env": ["A=b=c", "PATH=/opt/venv/bin:/bin"], "User": "65532", "Labels": {"x": "y"}},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:old-unpacked"]},
    "history": [{"created_by": "COPY"}],
}


def test_the_documents_of_an_image_with_one_more_layer() -> None:
    manifest, written = layers.appended(MANIFEST, CONFIGURATION, LAYER, "/opt/it/bin", {"base": "other"})
    assert json.loads(written) == {
        **CONFIGURATION,
        "config": {"Env": ["A=b=c", "PATH=/opt/it/bin:/opt/venv/bin:/bin"], "User": "65532", "Labels": {"x": "y", "base": "other"}},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:old-unpacked", "sha256:unpacked"]},
        "history": [{"created_by": "COPY"}, {"created_by": "fuseml mlflow-builder", "comment": "environment in /opt/it/bin"}],
    }
    assert manifest == {
        "schemaVersion": 2,
        "mediaType": layers.OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": layers.digest(written), "size": len(written)},
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": "sha256:old", "size": 5},
            {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:new", "size": 7},
        ],
    }
    assert CONFIGURATION["rootfs"] == {"type": "layers", "diff_ids": ["sha256:old-unpacked"]}


def test_a_configuration_that_says_little_and_a_manifest_of_docker() -> None:
    manifest, written = layers.appended({**MANIFEST, "mediaType": layers.DOCKER_MANIFEST}, {"rootfs": {"diff_ids": []}}, LAYER, "/p", {})
    assert json.loads(written) == {
        "config": {"Env": ["PATH=/p:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Labels": {}},
        "rootfs": {"diff_ids": ["sha256:unpacked"]},
    }
    assert manifest["layers"][-1]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"


def test_an_index_has_an_image_for_each_machine() -> None:
    entries = [{"digest": name, "platform": {"os": "linux", "architecture": name}} for name in ("arm64", "amd64")]
    index = {"manifests": [{"digest": "attestation", "platform": {"os": "unknown", "architecture": "unknown"}}, *entries]}
    assert layers.platform_manifest(index, "x86_64", "it") == "amd64"
    assert layers.platform_manifest(index, "aarch64", "it") == "arm64"
    with pytest.raises(
        sdk.StepError, match="the image it is not there for linux/riscv64, only for unknown/unknown, linux/arm64, linux/amd64"
    ):
        layers.platform_manifest(index, "riscv64", "it")
