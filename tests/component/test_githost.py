"""The embedded git host with real git: clone, fetch, push, and rejected requests."""

from __future__ import annotations

import concurrent.futures
import gzip
import os
from pathlib import Path

import pytest

from fuseml.githosts import payload

from . import githost

server, clone = githost.server, githost.clone


def test_an_empty_repository_can_be_cloned_and_accepts_its_first_push(server: githost.Server, tmp_path: Path) -> None:
    clone = githost.Clone.of(server.url(), tmp_path / "work")
    clone.git("checkout", "--quiet", "-B", "main")
    first = clone.commit("first", {"train.py": "print(1)\n"})
    clone.git("push", "--quiet", "origin", "main")
    assert server.host.heads("workspace", "mnist") == {"refs/heads/main": first}
    assert githost.Clone.of(server.url(), tmp_path / "other").git("rev-parse", "HEAD") == first


def test_the_first_branch_becomes_the_default_branch(server: githost.Server, tmp_path: Path) -> None:
    clone = githost.Clone.fresh(server.url(), tmp_path / "work", branch="trunk")
    first = clone.commit("first")
    clone.git("push", "--quiet", "origin", "trunk")
    assert server.new_deliveries()[-1][1]["repository"]["default_branch"] == "trunk"
    assert githost.Clone.of(server.url(), tmp_path / "other").git("rev-parse", "HEAD", "--abbrev-ref", "HEAD").splitlines() == [
        first,
        "trunk",
    ]


def test_a_shallow_clone_pulls_pushes_and_deepens(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    clone.commit("second", {"a.txt": "old"})
    clone.commit("third", {"a.txt": "new"})
    clone.git("push", "--quiet", "origin", "main")
    shallow = githost.Clone.of(server.url(), tmp_path / "shallow", "--depth=1")
    assert len(shallow.git("log", "--format=%H").splitlines()) == 1
    reverted = clone.commit("fourth, with the content of the second", {"a.txt": "old"})
    clone.git("push", "--quiet", "origin", "main")
    shallow.git("pull", "--quiet", "origin", "main")
    assert shallow.git("rev-parse", "HEAD") == reverted
    pushed = shallow.commit("fifth")
    shallow.git("push", "--quiet", "origin", "main")
    assert server.host.heads("workspace", "mnist")["refs/heads/main"] == pushed
    shallow.git("fetch", "--quiet", "--unshallow")
    assert len(shallow.git("log", "--format=%H").splitlines()) == 5
    shallow.git("fsck", "--strict")


def test_a_shallow_clone_cannot_push_an_incomplete_history(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    shallow = githost.Clone.of(server.url(), tmp_path / "shallow", "--depth=1")
    server.host.create_repository("workspace", "empty")
    server.new_deliveries()
    process = shallow.push(server.url("empty"), "main")
    assert process.returncode != 0
    assert "its history is incomplete" in process.stderr
    assert server.host.heads("workspace", "empty") == {}
    assert server.new_deliveries() == []


def test_a_partial_clone_receives_the_complete_repository(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    partial = githost.Clone.of(server.url(), tmp_path / "partial", "--filter=blob:none")
    assert (partial.folder / "train.py").read_text() == "print(1)\n"


def test_a_clone_with_many_local_commits_can_fetch(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    other = githost.Clone.of(server.url(), tmp_path / "other")
    for number in range(40):  # more than git lists in its first request
        other.commit(f"mine {number}")
    theirs = clone.commit("theirs")
    clone.git("push", "--quiet", "origin", "main")
    other.git("fetch", "--quiet", "origin")
    assert other.git("rev-parse", "origin/main") == theirs


@pytest.mark.parametrize("buffer", ["1048576", "100000000"], ids=["chunked", "with a length"])
def test_a_push_of_several_megabytes_is_stored(server: githost.Server, clone: githost.Clone, tmp_path: Path, buffer: str) -> None:
    content = os.urandom(5_000_000)
    (clone.folder / "data.bin").write_bytes(content)
    commit = clone.commit("data")
    clone.git("-c", f"http.postBuffer={buffer}", "push", "--quiet", "origin", "main")
    server.host.export("workspace", "mnist", commit, tmp_path / "export")
    assert (tmp_path / "export" / "data.bin").read_bytes() == content
    assert (githost.Clone.of(server.url(), tmp_path / "other").folder / "data.bin").read_bytes() == content


@pytest.mark.parametrize("buffer", ["1048576", "100000000"], ids=["chunked", "with a length"])
def test_a_push_above_the_limit_is_rejected_and_changes_nothing(server: githost.Server, clone: githost.Clone, buffer: str) -> None:
    before = server.host.heads("workspace", "mnist")
    (clone.folder / "data.bin").write_bytes(os.urandom(githost.MAX_BODY + 1_000_000))
    clone.commit("too much")
    process = githost.run_git("-c", f"http.postBuffer={buffer}", "push", "origin", "main", cwd=clone.folder)
    assert process.returncode != 0
    assert "413" in process.stderr
    assert server.host.heads("workspace", "mnist") == before
    assert server.new_deliveries() == []


def test_concurrent_pushes_to_different_branches_are_all_stored(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    def push(number: int) -> str:
        mine = githost.Clone.of(server.url(), tmp_path / f"c{number}")
        commit = mine.commit(f"by {number}", {f"{number}.txt": str(number)})
        mine.git("push", "--quiet", "origin", f"HEAD:refs/heads/b{number}")
        return commit

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        commits = list(pool.map(push, range(6)))
    heads = server.host.heads("workspace", "mnist")
    assert [heads[f"refs/heads/b{number}"] for number in range(6)] == commits
    delivered = {body["after"] for event, body in server.new_deliveries() if event == "push"}
    assert delivered == set(commits)


def test_exactly_one_of_concurrent_pushes_to_a_branch_succeeds(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    clones = [githost.Clone.of(server.url(), tmp_path / f"c{number}") for number in range(5)]
    commits = [mine.commit(f"by {number}") for number, mine in enumerate(clones)]
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        pushes = list(pool.map(lambda mine: mine.push("origin", "main"), clones))
    successful = [commit for commit, push in zip(commits, pushes, strict=True) if push.returncode == 0]
    assert [server.host.heads("workspace", "mnist")["refs/heads/main"]] == successful
    assert [body["after"] for _, body in server.new_deliveries()] == successful


def test_the_default_branch_cannot_be_deleted(server: githost.Server, clone: githost.Clone) -> None:
    process = clone.push("origin", ":main")
    assert "it is the default branch and cannot be deleted" in process.stderr
    assert server.new_deliveries() == []


def test_a_ref_must_point_to_a_commit(server: githost.Server, clone: githost.Clone) -> None:
    tree = clone.git("rev-parse", "HEAD^{tree}")
    assert "it does not point to a commit" in clone.push("origin", f"{tree}:refs/tags/tree").stderr


def test_an_atomic_push_moves_all_refs_or_none(server: githost.Server, clone: githost.Clone) -> None:
    clone.git("push", "--quiet", "origin", "main:feature")
    before = server.host.heads("workspace", "mnist")
    server.new_deliveries()
    clone.commit("second")
    assert clone.push("--atomic", "origin", "HEAD:feature", ":main").returncode != 0
    assert server.host.heads("workspace", "mnist") == before
    assert server.new_deliveries() == []


def test_a_push_with_a_stale_old_value_is_rejected(server: githost.Server, clone: githost.Clone) -> None:
    clone.git("push", "--quiet", "origin", "main:feature")
    stale = "1" * 40
    command = f"{stale} {payload.ZERO} refs/heads/feature\0report-status delete-refs".encode()
    status, _, response = githost.post(server, "git-receive-pack", githost.packet(command) + b"0000")
    assert status == 200
    assert b"ng refs/heads/feature another push moved it meanwhile" in response
    assert "refs/heads/feature" in server.host.heads("workspace", "mnist")


@pytest.mark.parametrize(
    "pack", [b"", b"PACK", b"PACK\0\0\0\2\0\0\0\1" + b"x" * 60, b"not a pack" * 10], ids=["none", "truncated", "broken", "no pack"]
)
def test_a_push_with_an_invalid_pack_changes_nothing(server: githost.Server, clone: githost.Clone, pack: bytes) -> None:
    before = server.host.heads("workspace", "mnist")
    command = f"{payload.ZERO} {'1' * 40} refs/heads/new\0report-status".encode()
    status, _, response = githost.post(server, "git-receive-pack", githost.packet(command) + b"0000" + pack)
    assert status == 400 or b"ok refs/heads/new" not in response
    assert server.host.heads("workspace", "mnist") == before
    assert server.new_deliveries() == []


def test_a_wrong_password_is_rejected_with_a_challenge(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    process = githost.run_git("clone", server.url(password="guess"), str(tmp_path / "other"))
    assert "Authentication failed" in process.stderr
    for path in ("mnist", "nothing"):
        status, headers, _ = githost.get(server, f"/git/workspace/{path}.git/info/refs?service=git-upload-pack", authorization=None)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="FuseML", charset="UTF-8"')


def test_the_address_works_without_its_suffix(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    githost.Clone.of(server.url().removesuffix(".git"), tmp_path / "other")


def test_a_bearer_token_is_accepted(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    address = server.host.clone_url("workspace", "mnist")
    githost.git("-c", f"http.extraHeader=Authorization: Bearer {githost.PASSWORD}", "clone", "--quiet", address, str(tmp_path / "other"))


def test_an_unknown_repository_is_not_found(server: githost.Server, tmp_path: Path) -> None:
    process = githost.run_git("clone", server.url("nothing"), str(tmp_path / "other"))
    assert "not found" in process.stderr


@pytest.mark.parametrize(
    "path",
    [
        "/git/../workspace/mnist.git/info/refs",
        "/git/workspace/../../outside.git/info/refs",
        "/git/workspace/%2e%2e%2foutside.git/info/refs",
        "/git/%2e%2e/outside.git/info/refs",
        "/git/workspace/mnist.git/config",
        "/git/workspace/mnist.git/../mnist.git/HEAD",
        "/git/workspace//mnist.git/info/refs",
        "/git/workspace/mnist%00.git/info/refs",
        "/git/workspace/mnist.git/objects/info/packs",
    ],
)
def test_no_path_leads_outside_the_repositories(server: githost.Server, clone: githost.Clone, path: str) -> None:
    (server.root.parent / "outside.git").symlink_to(server.root / "workspace" / "mnist.git")
    assert githost.get(server, f"{path}?service=git-upload-pack")[0] == 404


def test_the_dumb_protocol_is_rejected_with_a_remedy(server: githost.Server, clone: githost.Clone) -> None:
    status, _, response = githost.get(server, "/git/workspace/mnist.git/info/refs")
    assert (status, b"smart protocol" in response) == (403, True)


def test_a_fetch_may_be_plain_chunked_or_compressed(server: githost.Server, clone: githost.Clone) -> None:
    body = (
        githost.packet(f"want {clone.git('rev-parse', 'HEAD')} side-band-64k thin-pack ofs-delta".encode())
        + b"0000"
        + githost.packet(b"done")
    )
    plain = githost.post(server, "git-upload-pack", body)
    assert plain[0] == 200
    assert b"PACK" in plain[2]
    assert githost.post(server, "git-upload-pack", iter([body[:10], body[10:]]))[2] == plain[2]
    assert githost.post(server, "git-upload-pack", gzip.compress(body), **{"Content-Encoding": "gzip"})[2] == plain[2]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"not the protocol", {}, 400),
        (b"0032want " + b"1" * 40 + b"\n0000", {}, 400),
        (gzip.compress(b"0000")[:-6], {"Content-Encoding": "gzip"}, 400),
        (b"0000", {"Content-Encoding": "gzip"}, 400),
        (b"0000", {"Content-Type": "text/plain"}, 400),
        (gzip.compress(b"0" * (githost.MAX_BODY + 1)), {"Content-Encoding": "gzip"}, 413),
    ],
    ids=["garbage", "unknown want", "truncated", "not compressed", "other type", "zip bomb"],
)
def test_an_invalid_request_is_rejected(
    server: githost.Server, clone: githost.Clone, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert githost.post(server, "git-upload-pack", body, **headers)[0] == status


def test_stale_locks_of_a_crashed_push_are_removed(server: githost.Server, clone: githost.Clone) -> None:
    repository = server.root / "workspace" / "mnist.git"
    for lock in ("refs/heads/main.lock", "HEAD.lock", "packed-refs.lock", "objects/pack/pack-1.idx.lock", "objects/ab/cd.lock"):
        (repository / lock).parent.mkdir(parents=True, exist_ok=True)
        (repository / lock).touch()
    second = clone.commit("second")
    assert clone.push("--quiet", "origin", "main").returncode != 0
    server.host.recover()
    assert list(repository.rglob("*.lock")) == []
    clone.git("push", "--quiet", "origin", "main")
    assert server.host.heads("workspace", "mnist") == {"refs/heads/main": second}
