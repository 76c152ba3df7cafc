"""Files of git's configuration and attributes in a commit: they are untrusted, and one rule reads each of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from fuseml.domain import errors
from fuseml.githosts import configuration
from tests.waiting import PATIENCE

from . import githost

server, clone = githost.server, githost.clone

ATTRIBUTES = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
FILES = (".lfsconfig", ".gitmodules")


def including(file: Path) -> str:
    """A configuration that includes the file in each way of git."""
    conditions = ("include", 'includeIf "gitdir:/**"', 'includeIf "hasconfig:remote.*.url:*"')
    return "".join(f"[{condition}]\n\tpath = {file}\n" for condition in conditions)


def push(clone: githost.Clone, files: Mapping[str, str]) -> str:
    """A commit with a submodule of the project and a file of Git LFS whose content is missing."""
    library = clone.git("rev-parse", "HEAD")
    (clone.folder / "lib").mkdir()
    clone.git("update-index", "--add", "--cacheinfo", f"160000,{library},lib")
    commit = clone.commit("a change", {".gitattributes": ATTRIBUTES, **files})
    clone.git("push", "--quiet", "origin", "main")
    return commit


def test_a_pushed_file_includes_no_file_of_the_server(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    # As included, the files would leave the pointer as it is and bring a submodule.
    (tmp_path / "lfs").write_text("[lfs]\n\tfetchexclude = *\n")
    (tmp_path / "modules").write_text('[submodule "lib"]\n\tpath = lib\n\turl = ../mnist.git\n')
    commit = push(clone, {".gitmodules": including(tmp_path / "modules")})
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert list((tmp_path / "out" / "lib").iterdir()) == []
    commit = clone.commit("large", {".lfsconfig": including(tmp_path / "lfs"), "a.bin": POINTER})
    clone.git("push", "--quiet", "origin", "main")
    with pytest.raises(errors.InvalidError, match=r"the content of a\.bin"):
        server.host.export("workspace", "mnist", commit, tmp_path / "other")


@pytest.mark.parametrize("name", FILES)
def test_the_text_of_an_included_file_is_in_no_message(server: githost.Server, clone: githost.Clone, tmp_path: Path, name: str) -> None:
    (tmp_path / "passwd").write_text("canary:x:0:0\n")
    commit = push(clone, {name: including(tmp_path / "passwd")})
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == including(tmp_path / "passwd")


@pytest.mark.parametrize("name", FILES)
def test_a_pushed_file_that_includes_a_pipe_does_not_block_the_server(
    server: githost.Server, clone: githost.Clone, tmp_path: Path, name: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    commit = push(clone, {name: including(pipe)})
    exporting = threading.Thread(target=server.host.export, args=("workspace", "mnist", commit, tmp_path / "out"), daemon=True)
    exporting.start()
    exporting.join(PATIENCE)
    blocked = exporting.is_alive()
    if blocked:
        pipe.write_text("")  # its reader continues
    assert not blocked
    assert (tmp_path / "out" / "train.py").exists()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("text", ["canary\n", "[lfs]\n\tcanary! = 1\n", "[canary", '[lfs]\nurl = "canary\n'])
def test_a_broken_file_is_refused_without_its_text(
    server: githost.Server, clone: githost.Clone, tmp_path: Path, name: str, text: str
) -> None:
    commit = push(clone, {name: text})
    with pytest.raises(errors.InvalidError) as caught:
        server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert f"the file {name} of the commit is not in the format of git's configuration" in caught.value.message
    assert "canary" not in caught.value.message


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_a_limit(server: githost.Server, clone: githost.Clone, tmp_path: Path, name: str) -> None:
    commit = push(clone, {name: "[lfs]\n" + "#" * configuration.LARGEST})
    with pytest.raises(errors.TooLargeError, match=rf"the file \{name} of the commit has 256\.0 KiB, more than 256\.0 KiB"):
        server.host.export("workspace", "mnist", commit, tmp_path / "out")
