"""The bytes of a layer, and the documents of an image with an added layer."""

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


def write_tree(folder: Path, tree: Any, time: int, *, backwards: bool) -> None:
    folder.mkdir(mode=0o700)
    for name, content in sorted(tree.items(), reverse=backwards):
        if isinstance(content, dict):
            write_tree(folder / name, content, time, backwards=backwards)
        else:
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
        os.utime(folder / name, (time, time))


@given(tree=TREE, time=st.integers(1, 2**31))
@settings(max_examples=50)
def test_equal_contents_give_equal_layers_whatever_their_times_and_places(tree: Any, time: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        one, other = Path(scratch, "one"), Path(scratch, "other")
        write_tree(one, tree, time, backwards=False)
        write_tree(other, tree, 1, backwards=True)
        layer, data = packed(one)
        assert (layer, data) == packed(other)
    content = gzip.decompress(data)
    assert layer == layers.Layer(layers.Blob(layers.digest(data), len(data)), layers.digest(content))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        entries = {entry.name.removeprefix("opt/it").removeprefix("/"): entry for entry in archive.getmembers()}
        for name, given in tree.items():
            for path, expected in (
                {f"{name}/{inner}": more for inner, more in given.items()}.items() if isinstance(given, dict) else [(name, given)]
            ):
                content_of = archive.extractfile(entries[path])
                assert content_of is not None
                assert content_of.read() == expected
    assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in entries.values()} == {(0, 0, "", "", 0)}


def test_entries_keep_their_types_and_links_within_the_folder_stay_within(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "run").write_text("#!/bin/sh\n")
    (folder / "bin" / "run").chmod(0o700)
    (folder / "bin" / "same").hardlink_to(folder / "bin" / "run")
    for name, target in {"near": "run", "inside": str(folder / "bin" / "run"), "outside": "/usr/bin/python3", "all": str(folder)}.items():
        (folder / "bin" / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    with tarfile.open(fileobj=io.BytesIO(packed(folder)[1])) as archive:
        entries = {entry.name: (entry.mode, entry.type, entry.linkname) for entry in archive}
    link = (0o777, tarfile.SYMTYPE)
    assert entries == {
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


def test_the_documents_of_an_image_with_an_added_layer() -> None:
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


def test_a_minimal_configuration_and_a_manifest_of_docker() -> None:
    manifest, written = layers.appended({**MANIFEST, "mediaType": layers.DOCKER_MANIFEST}, {"rootfs": {"diff_ids": []}}, LAYER, "/p", {})
    assert json.loads(written) == {
        "config": {"Env": ["PATH=/p:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Labels": {}},
        "rootfs": {"diff_ids": ["sha256:unpacked"]},
    }
    assert manifest["layers"][-1]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"


def test_the_manifest_of_a_machine_is_selected_from_an_index() -> None:
    entries = [{"digest": name, "platform": {"os": "linux", "architecture": name}} for name in ("arm64", "amd64")]
    index = {"manifests": [{"digest": "attestation", "platform": {"os": "unknown", "architecture": "unknown"}}, *entries]}
    assert layers.platform_manifest(index, "x86_64", "it") == "amd64"
    assert layers.platform_manifest(index, "aarch64", "it") == "arm64"
    with pytest.raises(
        sdk.StepError, match="the image it has no manifest for linux/riscv64, only for unknown/unknown, linux/arm64, linux/amd64"
    ):
        layers.platform_manifest(index, "riscv64", "it")
