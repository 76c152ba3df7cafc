"""What a push or a commit may make the embedded git host do: objects, deltas, trees and checkouts that are larger than they look."""

from __future__ import annotations

import dataclasses
import io
import tracemalloc
from pathlib import Path

import pytest
from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import Repo

from fuseml.domain import errors
from fuseml.githosts import limits, packs, smart_http
from fuseml.githosts.embedded import EmbeddedGitHost
from tests.packs import back, chain, delta, entry, number, pack

from . import githost

server, clone = githost.server, githost.clone
SMALL = limits.Limits(object=1 << 20, pack=8 << 20, memory=8 << 20, objects=500, files=200, checkout=2 << 20)


@pytest.fixture
def bounded(server: githost.Server) -> githost.Server:
    """The git host with small limits."""
    host = EmbeddedGitHost(server.root, server.host.clone_url("workspace", "mnist").rsplit("/", 2)[0], SMALL)
    app = smart_http.SmartHttp(host, authorise=lambda *_: True, deliver=server.deliveries.append, secret=lambda *_: githost.SECRET)
    server.serve(app)
    return dataclasses.replace(server, host=host)


MIB = 1 << 20
BOMBS = {
    "an object that declares a terabyte": (pack([entry(3, b"x", declared=1 << 40)]), "a file of this push has 1.0 TiB, more than 1.0 MiB"),
    "an object of two megabytes in two kilobytes": (pack([entry(3, bytes(2 * MIB))]), "a file of this push has 2.0 MiB"),
    "an object that is larger than declared": (pack([entry(3, bytes(MIB), declared=100)]), "another size than it declares"),
    "an object that is smaller than declared": (pack([entry(3, b"x", declared=100)]), "another size than it declares"),
    "a delta with a large result": (pack([entry(3, b"x"), entry(6, delta(1, 1 << 33), base=back(10))]), "a file of this push has 8.0 GiB"),
    "many objects of the allowed size": (pack([entry(3, bytes(MIB - number)) for number in range(9)]), "more than 8.0 MiB"),
    "more objects than allowed": (pack([], count=1 << 31), "has 2147483648 objects, more than 500"),
    "deltas that need much memory": (chain(20, 500_000, 3), "of memory, more than 4.0 MiB"),
    "deltas on unknown objects": (
        pack([entry(7, delta(9, MIB), base=bytes([index] * 20)) for index in range(8)]),
        "of memory, more than 4.0 MiB",
    ),
    "half a pack": (pack([entry(3, b"x" * 1000)])[:30], "the pack is incomplete"),
    "no pack": (b"PUCK" + bytes(30), "has no pack"),
    "a pack with a broken stream": (pack([number(5, 4, 3) + b"\x78\x9c\xff\xff"]), "the pack is damaged"),
    "a number without an end": (pack([b"\xff" * 40]), "a number of more than 70 bits"),
    "a delta without sizes": (pack([entry(3, b"x"), entry(6, b"\xff", base=back(10))]), "a delta without sizes"),
}


@pytest.mark.parametrize(("body", "message"), list(BOMBS.values()), ids=list(BOMBS))
def test_a_pack_is_judged_without_inflating_it_in_memory(body: bytes, message: str) -> None:
    file = io.BytesIO(b"head" + body)
    file.seek(4)
    tracemalloc.start()
    try:
        with pytest.raises((errors.TooLargeError, errors.InvalidError), match=message):
            packs.check(file, dataclasses.replace(SMALL, pack=64 * MIB, memory=4 * MIB) if "memory" in message else SMALL, lambda _: False)
        assert tracemalloc.get_traced_memory()[1] < 2 * MIB
    finally:
        tracemalloc.stop()
    assert file.tell() == 4


@pytest.mark.parametrize("siblings", [1, 3])
def test_a_chain_that_fits_is_accepted(siblings: int) -> None:
    packs.check(io.BytesIO(chain(50, 10_000, siblings)), SMALL, lambda _: False)


# With git


def test_a_large_file_is_refused_with_its_size_and_the_way_out(bounded: githost.Server, clone: githost.Clone) -> None:
    (clone.folder / "data.bin").write_bytes(bytes(3 << 20))
    clone.commit("data")
    process = clone.push("origin", "main")
    assert process.returncode != 0
    assert "remote: error: a file of this push has 3.0 MiB, more than 1.0 MiB (FUSEML_GIT_OBJECT_MIB)" in process.stderr
    assert "keep data sets and models in an artifact store" in process.stderr.replace("\n", " ").replace("remote: ", "")
    assert bounded.new_deliveries() == []
    clone.git("reset", "--quiet", "--hard", "HEAD~1")
    clone.commit("without", {"small": "x"})
    clone.git("push", "--quiet", "origin", "main")


def test_a_push_of_many_objects_is_refused(bounded: githost.Server, clone: githost.Clone) -> None:
    clone.commit("many", {f"{number}.txt": str(number) for number in range(600)})
    process = clone.push("origin", "main")
    assert process.returncode != 0
    assert "objects, more than 500; push fewer commits at a time" in process.stderr


def stored(server: githost.Server, tree: bytes, repository: Repo) -> str:
    commit = Commit()
    commit.tree = tree
    commit.author = commit.committer = b"Ada <ada@example.com>"
    commit.author_time = commit.commit_time = 1_790_000_000
    commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"a bomb"
    repository.object_store.add_object(commit)
    return commit.id.decode()


def tree_bomb(server: githost.Server, *, empty: bool) -> str:
    """A commit whose tree of a kilobyte stands for ten thousand million files, or as many empty folders."""
    with server.host.open("workspace", "mnist") as repository:
        blob, tree = Blob.from_string(b"x"), Tree()
        repository.object_store.add_object(blob)
        if not empty:
            tree.add(b"file", 0o100644, blob.id)
        repository.object_store.add_object(tree)
        for _ in range(10):
            outer = Tree()
            for name in range(10):
                outer.add(b"%d" % name, 0o040000, tree.id)
            repository.object_store.add_object(outer)
            tree = outer
        return stored(server, tree.id, repository)


@pytest.mark.parametrize("empty", [False, True])
def test_a_tree_that_stands_for_endless_files_is_refused_everywhere(
    bounded: githost.Server, clone: githost.Clone, tmp_path: Path, empty: bool
) -> None:
    bomb, first = tree_bomb(bounded, empty=empty), clone.git("rev-parse", "HEAD")
    with pytest.raises(errors.TooLargeError, match="more than 200 files and folders"):
        bounded.host.export("workspace", "mnist", bomb, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*"))
    with pytest.raises(errors.TooLargeError, match="more than 200 files and folders"):
        bounded.host.digest("workspace", "mnist", bomb, ["x"])
    assert bounded.host.changed_paths("workspace", "mnist", first, bomb) is None


def test_a_checkout_has_a_bound_in_bytes(bounded: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    blob = "x" * 900_000
    commit = clone.commit("three copies of one object", dict.fromkeys(("a", "b", "c"), blob))
    clone.git("push", "--quiet", "origin", "main")
    with pytest.raises(errors.TooLargeError, match=r"take more than 2.0 MiB \(FUSEML_CHECKOUT_MIB\)"):
        bounded.host.export("workspace", "mnist", commit, tmp_path / "out")


ILLEGAL = [b".git", b".GIT", b".git.", b".git ", b"git~1", b"GIT~2", b".git::$INDEX_ALLOCATION", b"..", b"."]


@pytest.mark.parametrize("name", ILLEGAL)
def test_a_path_that_is_git_s_own_or_leads_outside_is_refused(
    server: githost.Server, clone: githost.Clone, tmp_path: Path, name: bytes
) -> None:
    with server.host.open("workspace", "mnist") as repository:
        blob, inner, outer = Blob.from_string(b"x"), Tree(), Tree()
        inner.add(b"config", 0o100644, blob.id)
        outer.add(name, 0o040000, inner.id)
        for item in (blob, inner, outer):
            repository.object_store.add_object(item)
        commit = stored(server, outer.id, repository)
    with pytest.raises(errors.InvalidError, match="not allowed in a checkout"):
        server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", [".gitignore", ".gitattributes", "git", "digit~1", ".github/workflows/ci.yml", "git~"])
def test_ordinary_names_are_checked_out(server: githost.Server, clone: githost.Clone, tmp_path: Path, name: str) -> None:
    commit = clone.commit("ordinary", {name: "x"})
    clone.git("push", "--quiet", "origin", "main")
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert (tmp_path / "out" / name).read_text() == "x"
