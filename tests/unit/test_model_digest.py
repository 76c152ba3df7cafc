"""The digest of a model's folder: equal for equal files, different for any change, and independent of order and place."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import model_digest

NAMES = st.text("abc./ é", min_size=1, max_size=6).filter(
    lambda name: all(part.strip(" ") not in ("", ".", "..") for part in name.split("/")) and not name.endswith(" ")
)
FILES = st.dictionaries(NAMES, st.binary(max_size=8), min_size=1, max_size=4)


def write(folder: Path, files: dict[str, bytes]) -> dict[str, bytes]:
    """Write the files; those that the file system could hold side by side."""
    written: dict[str, bytes] = {}
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
        written[path.relative_to(folder).as_posix()] = content
    return written


def digest(files: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    with tempfile.TemporaryDirectory() as folder:
        written = write(Path(folder), files)
        return written, model_digest.of_folder(Path(folder))


@given(FILES, FILES)
def test_digests_are_equal_exactly_for_equal_files(one: dict[str, bytes], other: dict[str, bytes]) -> None:
    first, first_digest = digest(one)
    second, second_digest = digest(other)
    assert (first == second) is (first_digest == second_digest)


@given(FILES)
def test_the_order_in_which_files_are_written_has_no_effect(files: dict[str, bytes]) -> None:
    written, expected = digest(files)
    assert digest(dict(reversed(written.items()))) == (written, expected)


def test_what_a_download_writes_beside_the_model_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    before = model_digest.of_folder(tmp_path)
    (tmp_path / "registered_model_meta").write_text("model_name: a")
    assert model_digest.of_folder(tmp_path) == before
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "registered_model_meta").write_text("not of a download")
    assert model_digest.of_folder(tmp_path) != before


@pytest.mark.parametrize("kind", ["link", "broken link", "link to a folder", "FIFO"])
def test_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    path = tmp_path / "other"
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to({"link": "MLmodel", "broken link": "nothing", "link to a folder": "/tmp"}[kind])
    with pytest.raises(ValueError, match="neither regular nor a folder: other"):
        model_digest.of_folder(tmp_path)
