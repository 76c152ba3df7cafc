"""The embedded git host against the real git: clone, fetch, push, and what is refused."""

from __future__ import annotations

import concurrent.futures
import gzip
import os
from pathlib import Path

import pytest

from fuseml.githosts import payload

from . import githost

server, clone = githost.server, githost.clone


def test_an_empty_repository_can_be_cloned_and_takes_its_first_push(server: githost.Server, tmp_path: Path) -> None:
    clone = githost.Clone.of(server.url(), tmp_path / "work")
    clone.git("checkout", "--quiet", "-B", "main")
    first = clone.commit("first", {"train.py": "print(1)\n"})
    clone.git("push", "--quiet", "origin", "main")
    assert server.host.heads("workspace", "mnist") == {"refs/heads/main": first}
    assert githost.Clone.of(server.url(), tmp_path / "other").git("rev-parse", "HEAD") == first


def test_the_first_branch_becomes_the_default_whatever_its_name(server: githost.Server, tmp_path: Path) -> None:
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


def test_a_shallow_clone_cannot_push_a_history_that_the_repository_does_not_have(
    server: githost.Server, clone: githost.Clone, tmp_path: Path
) -> None:
    clone.commit("second")
    clone.git("push", "--quiet", "origin", "main")
    shallow = githost.Clone.of(server.url(), tmp_path / "shallow", "--depth=1")
    server.host.create_repository("workspace", "empty")
    server.new_deliveries()
    refused = shallow.push(server.url("empty"), "main")
    assert refused.returncode != 0
    assert "its history is incomplete" in refused.stderr
    assert server.host.heads("workspace", "empty") == {}
    assert server.new_deliveries() == []


def test_a_partial_clone_gets_the_whole_repository(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    partial = githost.Clone.of(server.url(), tmp_path / "partial", "--filter=blob:none")
    assert (partial.folder / "train.py").read_text() == "print(1)\n"


def test_a_clone_with_many_commits_of_its_own_fetches(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    other = githost.Clone.of(server.url(), tmp_path / "other")
    for number in range(40):  # more than git names in its first question
        other.commit(f"mine {number}")
    theirs = clone.commit("theirs")
    clone.git("push", "--quiet", "origin", "main")
    other.git("fetch", "--quiet", "origin")
    assert other.git("rev-parse", "origin/main") == theirs


@pytest.mark.parametrize("buffer", ["1048576", "100000000"], ids=["chunked", "with a length"])
def test_a_push_of_some_megabytes_arrives(server: githost.Server, clone: githost.Clone, tmp_path: Path, buffer: str) -> None:
    content = os.urandom(5_000_000)
    (clone.folder / "data.bin").write_bytes(content)
    commit = clone.commit("data")
    clone.git("-c", f"http.postBuffer={buffer}", "push", "--quiet", "origin", "main")
    server.host.export("workspace", "mnist", commit, tmp_path / "export")
    assert (tmp_path / "export" / "data.bin").read_bytes() == content
    assert (githost.Clone.of(server.url(), tmp_path / "other").folder / "data.bin").read_bytes() == content


@pytest.mark.parametrize("buffer", ["1048576", "100000000"], ids=["chunked", "with a length"])
def test_a_push_above_the_limit_is_refused_and_changes_nothing(server: githost.Server, clone: githost.Clone, buffer: str) -> None:
    before = server.host.heads("workspace", "mnist")
    (clone.folder / "data.bin").write_bytes(os.urandom(githost.MAX_BODY + 1_000_000))
    clone.commit("too much")
    refused = githost.run_git("-c", f"http.postBuffer={buffer}", "push", "origin", "main", cwd=clone.folder)
    assert refused.returncode != 0
    assert "413" in refused.stderr
    assert server.host.heads("workspace", "mnist") == before
    assert server.new_deliveries() == []


def test_pushes_to_different_branches_at_once_all_arrive(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    def push(number: int) -> str:
        mine = githost.Clone.of(server.url(), tmp_path / f"c{number}")
        commit = mine.commit(f"by {number}", {f"{number}.txt": str(number)})
        mine.git("push", "--quiet", "origin", f"HEAD:refs/heads/b{number}")
        return commit

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        commits = list(pool.map(push, range(6)))
    heads = server.host.heads("workspace", "mnist")
    assert [heads[f"refs/heads/b{number}"] for number in range(6)] == commits
    told = {body["after"] for event, body in server.new_deliveries() if event == "push"}
    assert told == set(commits)


def test_of_pushes_to_one_branch_at_once_exactly_one_wins(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    clones = [githost.Clone.of(server.url(), tmp_path / f"c{number}") for number in range(5)]
    commits = [mine.commit(f"by {number}") for number, mine in enumerate(clones)]
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda mine: mine.push("origin", "main"), clones))
    winners = [commit for commit, push in zip(commits, done, strict=True) if push.returncode == 0]
    assert [server.host.heads("workspace", "mnist")["refs/heads/main"]] == winners
    assert [body["after"] for _, body in server.new_deliveries()] == winners


def test_the_default_branch_cannot_be_deleted(server: githost.Server, clone: githost.Clone) -> None:
    refused = clone.push("origin", ":main")
    assert "it is the default branch and cannot be deleted" in refused.stderr
    assert server.new_deliveries() == []


def test_a_ref_must_stand_for_a_commit(server: githost.Server, clone: githost.Clone) -> None:
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


def test_a_ref_that_moved_meanwhile_stays(server: githost.Server, clone: githost.Clone) -> None:
    clone.git("push", "--quiet", "origin", "main:feature")
    stale = "1" * 40
    command = f"{stale} {payload.ZERO} refs/heads/feature\0report-status delete-refs".encode()
    status, _, answer = githost.post(server, "git-receive-pack", githost.packet(command) + b"0000")
    assert status == 200
    assert b"ng refs/heads/feature another push moved it meanwhile" in answer
    assert "refs/heads/feature" in server.host.heads("workspace", "mnist")


@pytest.mark.parametrize(
    "pack", [b"", b"PACK", b"PACK\0\0\0\2\0\0\0\1" + b"x" * 60, b"not a pack" * 10], ids=["none", "cut off", "broken", "no pack"]
)
def test_a_push_without_a_proper_pack_changes_nothing(server: githost.Server, clone: githost.Clone, pack: bytes) -> None:
    before = server.host.heads("workspace", "mnist")
    command = f"{payload.ZERO} {'1' * 40} refs/heads/new\0report-status".encode()
    status, _, answer = githost.post(server, "git-receive-pack", githost.packet(command) + b"0000" + pack)
    assert status == 400 or b"ok refs/heads/new" not in answer
    assert server.host.heads("workspace", "mnist") == before
    assert server.new_deliveries() == []


def test_a_wrong_password_is_challenged(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    refused = githost.run_git("clone", server.url(password="guess"), str(tmp_path / "other"))
    assert "Authentication failed" in refused.stderr
    for path in ("mnist", "nothing"):
        status, headers, _ = githost.get(server, f"/git/workspace/{path}.git/info/refs?service=git-upload-pack", authorization=None)
        assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="FuseML", charset="UTF-8"')


def test_the_address_works_without_its_ending(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    githost.Clone.of(server.url().removesuffix(".git"), tmp_path / "other")


def test_a_bearer_token_opens_too(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    address = server.host.clone_url("workspace", "mnist")
    githost.git("-c", f"http.extraHeader=Authorization: Bearer {githost.PASSWORD}", "clone", "--quiet", address, str(tmp_path / "other"))


def test_an_unknown_repository_is_not_found(server: githost.Server, tmp_path: Path) -> None:
    refused = githost.run_git("clone", server.url("nothing"), str(tmp_path / "other"))
    assert "not found" in refused.stderr


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
def test_no_path_leads_out_of_the_repositories(server: githost.Server, clone: githost.Clone, path: str) -> None:
    (server.root.parent / "outside.git").symlink_to(server.root / "workspace" / "mnist.git")
    assert githost.get(server, f"{path}?service=git-upload-pack")[0] == 404


def test_the_dumb_protocol_is_refused_with_a_way_out(server: githost.Server, clone: githost.Clone) -> None:
    status, _, answer = githost.get(server, "/git/workspace/mnist.git/info/refs")
    assert (status, b"smart protocol" in answer) == (403, True)


def test_a_fetch_may_be_plain_chunked_or_packed(server: githost.Server, clone: githost.Clone) -> None:
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
    ids=["garbage", "unknown want", "cut off", "not packed", "another type", "a bomb"],
)
def test_a_broken_request_is_refused(
    server: githost.Server, clone: githost.Clone, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert githost.post(server, "git-upload-pack", body, **headers)[0] == status


def test_a_push_that_a_death_cut_off_does_not_keep_others_from_pushing(server: githost.Server, clone: githost.Clone) -> None:
    repository = server.root / "workspace" / "mnist.git"
    for left in ("refs/heads/main.lock", "HEAD.lock", "packed-refs.lock"):
        (repository / left).touch()
    second = clone.commit("second")
    assert clone.push("--quiet", "origin", "main").returncode != 0
    server.host.remove_stale_locks()
    clone.git("push", "--quiet", "origin", "main")
    assert server.host.heads("workspace", "mnist") == {"refs/heads/main": second}
