"""Files of git's configuration and attributes in a commit: they are untrusted, and one rule reads each of them."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from dulwich import objects

from fuseml.domain import errors
from fuseml.githosts import configuration, history
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


# git itself adds no link of the name .gitmodules.
@pytest.mark.parametrize("name", [".lfsconfig", ".gitattributes"])
def test_what_is_no_regular_file_configures_nothing(server: githost.Server, clone: githost.Clone, tmp_path: Path, name: str) -> None:
    clone.commit("a link", {"settings": f"{ATTRIBUTES}canary\n"})
    (clone.folder / name).symlink_to("settings")
    commit = clone.commit("linked", {} if name == ".gitattributes" else {".gitattributes": ATTRIBUTES})
    clone.git("push", "--quiet", "origin", "main")
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert (tmp_path / "out" / name).is_symlink()


@pytest.mark.parametrize(
    ("attributes", "uses"),
    [
        ({".gitattributes": ATTRIBUTES}, True),
        ({"data/.gitattributes": ATTRIBUTES}, True),
        ({"data/x.gitattributes": ATTRIBUTES}, False),
        ({".gitattributes": "*.bin -text\n"}, False),
    ],
)
def test_one_rule_decides_whether_a_commit_uses_git_lfs(
    server: githost.Server, clone: githost.Clone, tmp_path: Path, attributes: Mapping[str, str], uses: bool
) -> None:
    content = b"weights\n"
    oid = hashlib.sha256(content).hexdigest()
    pointer = POINTER.replace("0" * 64, oid).replace("size 9", f"size {len(content)}")
    commit = clone.commit("large", {"data/a.bin": pointer, **attributes})
    pushed = clone.push("origin", "main")
    server.host.lfs_objects("workspace", "mnist").add(oid, io.BytesIO(content), 1 << 20)
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    server.host.add_repository("workspace", "mnist", commit, tmp_path / "out")
    filters = githost.run_git("config", "filter.lfs.clean", cwd=tmp_path / "out").stdout
    seen = ("hint: .gitattributes" in pushed.stderr, (tmp_path / "out/data/a.bin").read_bytes() == content, "git-lfs" in filters)
    assert seen == (uses, uses, uses)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://[canary", "the server of an invalid URL, which is not asked"),
        ("http://canary@[::1/x", "the server of an invalid URL, which is not asked"),
        (f"http://{'x' * 5000}/", f"the server {'x' * 255}, which is not asked"),
    ],
)
def test_an_odd_address_of_an_lfs_server_is_named_in_bounds(
    server: githost.Server, clone: githost.Clone, tmp_path: Path, url: str, named: str
) -> None:
    commit = push(clone, {"a.bin": POINTER, ".lfsconfig": f'[lfs]\n\turl = "{url}"\n'})
    with pytest.raises(errors.InvalidError) as caught:
        server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert f".lfsconfig names {named}" in caught.value.message
    assert "canary" not in caught.value.message
    assert "git -c lfs.url=" in caught.value.message


def test_a_folder_that_is_a_file_fails_the_checkout_with_the_reason(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    with server.host.open("workspace", "mnist") as repository:
        broken = history.commit_of(repository, clone.git("rev-parse", "HEAD"))
        assert broken is not None
        tree = objects.Tree()
        tree.add(b"data", 0o040000, objects.ObjectID(clone.git("rev-parse", "HEAD:train.py").encode()))
        broken.tree = tree.id
        for git_object in (tree, broken):
            repository.object_store.add_object(git_object)
    with pytest.raises(errors.InvalidError, match="stands for a folder and is none"):
        server.host.export("workspace", "mnist", broken.id.decode(), tmp_path / "out")
