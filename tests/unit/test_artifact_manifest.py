"""Manifests, paths and keys of artifacts: rules for any input."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fuseml.artifactstores import File, layout, manifest, paths, verification
from fuseml.contents import valid_key
from fuseml.domain import errors
from fuseml.steps import model_digest

part = st.text(st.characters(min_codepoint=33, exclude_characters="/\\\x7f", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..")
)
digests = st.binary(min_size=32, max_size=32).map(lambda data: f"sha256:{data.hex()}")
files = st.lists(
    st.builds(File, st.lists(part, min_size=1, max_size=3).map("/".join), st.integers(0, 1 << 50), digests, st.booleans()), max_size=8
)


def is_valid(listed: list[File]) -> bool:
    try:
        paths.check_paths(file.path for file in listed)
    except errors.InvalidError:
        return False
    return True


@given(files.filter(is_valid), st.randoms())
def test_a_manifest_is_read_as_it_was_written_and_is_the_same_for_any_order(listed: list[File], order: random.Random) -> None:
    encoded = manifest.encode(listed)
    assert manifest.decode(encoded, manifest.digest(encoded)) == sorted(listed, key=lambda file: file.path)
    order.shuffle(listed)
    assert manifest.encode(listed) == encoded


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format":"fuseml.files/2","files":[]}',
        b'{"format":"fuseml.files/1","files":[{"path":"../x","size":1,"digest":"sha256:%s"}]}' % (b"0" * 64),
        b'{"format":"fuseml.files/1","files":[{"path":"x","size":-1,"digest":"sha256:%s"}]}' % (b"0" * 64),
        b'{"format":"fuseml.files/1","files":[{"path":"x","size":true,"digest":"sha256:%s"}]}' % (b"0" * 64),
        b'{"format":"fuseml.files/1","files":[{"path":"x","size":1,"digest":"sha256:../../etc"}]}',
        b"[" * 100_000,
    ],
)
def test_text_that_is_no_manifest_is_refused(text: bytes) -> None:
    with pytest.raises(errors.PermanentError, match="is not the manifest of an artifact"):
        manifest.decode(text, manifest.digest(text))


@given(st.text(), st.text(), st.text())
def test_different_names_have_different_keys_that_every_store_can_keep(project: str, name: str, other: str) -> None:
    keys = layout.Keys.of("dataset", project, name)
    assert valid_key(keys.version(1, "0" * 64)).count("/") == 4
    assert (keys == layout.Keys.of("dataset", project, other)) == (name == other)


@example([b""], [b"x", b""])
@given(st.lists(st.binary(max_size=20), max_size=6), st.lists(st.binary(max_size=20), max_size=6))
def test_only_the_recorded_bytes_are_read_to_the_end(blocks: list[bytes], changed: list[bytes]) -> None:
    whole = b"".join(blocks)
    digest = f"md5:{hashlib.md5(whole).hexdigest()}"
    assert b"".join(verification.verified(blocks, len(whole), digest, "it")) == whole
    assume(b"".join(changed) != whole)
    received = b""
    with pytest.raises(errors.PermanentError, match="it is damaged in the store"):
        for block in verification.verified(changed, len(whole), digest, "it"):
            received += block
    assert len(received) < max(len(whole), len(b"".join(changed)))


@example({"a": [b"x", b""], "b": []}, "b", 0)
@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.lists(st.binary(max_size=20), max_size=4), min_size=1), st.text(), st.integers(0, 7)
)
def test_files_with_one_digest_are_read_to_the_end_only_if_all_of_them_are_the_recorded_ones(
    files: dict[str, list[bytes]], other: str, bit: int
) -> None:
    def of(found: Mapping[str, bytes]) -> str:
        return model_digest.of_digests(found)

    digest = of({path: hashlib.sha256(b"".join(blocks)).digest() for path, blocks in files.items()})
    whole = verification.Whole(digest, list(files), of, "it")
    assert {path: b"".join(whole.verified(blocks, path, None)) for path, blocks in files.items()} == {
        p: b"".join(b) for p, b in files.items()
    }
    damaged = other if other in files else min(files)
    changed = {**files, damaged: [*files[damaged], bytes([1 << bit])]}
    again, received = verification.Whole(digest, list(files), of, "it"), b""
    with pytest.raises(errors.PermanentError, match="it is damaged in the store"):
        for path, blocks in changed.items():
            for block in again.verified(blocks, path, None):
                received += block
    contents = [b"".join(blocks) for blocks in changed.values()]
    # An empty last file has no block to hold back.
    assert len(received) < sum(map(len, contents)) or not contents[-1]
