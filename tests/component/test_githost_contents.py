"""The embedded git host as used by FuseML: export, changed paths, creation and deletion of repositories."""

from __future__ import annotations

from pathlib import Path

import pytest
from dulwich import objects

from fuseml import githosts
from fuseml.domain import errors
from fuseml.githosts import payload
from tests import commands

from . import githost

server, clone = githost.server, githost.clone


def test_an_export_contains_exactly_the_commit(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    (clone.folder / "run.sh").write_text("#!/bin/sh\n")
    (clone.folder / "run.sh").chmod(0o755)
    (clone.folder / "link").symlink_to("src/model.py")
    (clone.folder / "dangling").symlink_to("not/there")
    (clone.folder / "submodule").mkdir()
    clone.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},submodule")
    old = clone.commit("with everything", {"src/model.py": "pass\n", "na\u00efve name.txt": "x"})
    clone.commit("later", {"src/model.py": "later\n"})
    clone.git("push", "--quiet", "origin", "main")
    out = tmp_path / "out"
    server.host.export("workspace", "mnist", old, out)
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir())
    assert files == [".fuseml/_org", ".fuseml/_project", "dangling", "link", "na\u00efve name.txt", "run.sh", "src/model.py", "train.py"]
    assert list((out / "submodule").iterdir()) == []
    assert (out / "link").read_text() == "pass\n"
    assert [(out / name).stat().st_mode & 0o777 for name in ("run.sh", "train.py")] == [0o755, 0o644]
    assert [(out / ".fuseml" / name).read_text() for name in ("_org", "_project")] == ["workspace", "mnist"]


def test_submodules_of_the_project_are_exported_and_no_others(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    files = clone.commit("a library", {"lib.py": "ANSWER = 42\n"})
    clone.git("push", "--quiet", "origin", "main")
    server.host.create_repository("workspace", "app")
    urls = {
        "relative": "../mnist.git",
        "absolute": server.url(),
        "other": "https://git.example.com/team/x.git",
        "project": "../../else/mnist",
    }
    modules = "".join(f'[submodule "{name}"]\n\tpath = libs/{name}\n\turl = {url}\n' for name, url in urls.items())
    for name in urls:
        (clone.folder / "libs" / name).mkdir(parents=True)
        clone.git("update-index", "--add", "--cacheinfo", f"160000,{files},libs/{name}")
    commit = clone.commit("submodules", {".gitmodules": modules})
    clone.git("push", "--quiet", server.url("app"), "HEAD:main")
    server.host.create_repository("else", "mnist")

    server.host.export("workspace", "app", commit, tmp_path / "out")

    libraries = {path.name: sorted(file.name for file in path.iterdir()) for path in (tmp_path / "out" / "libs").iterdir()}
    assert libraries == {"relative": ["lib.py", "train.py"], "absolute": ["lib.py", "train.py"], "other": [], "project": []}


def test_a_submodule_of_itself_is_exported_a_bounded_number_of_times(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    modules = "".join(f'[submodule "s{number}"]\n\tpath = s{number}\n\turl = ../mnist.git\n' for number in range(51))
    first = clone.commit("first")
    for number in range(51):
        (clone.folder / f"s{number}").mkdir()
        clone.git("update-index", "--add", "--cacheinfo", f"160000,{first},s{number}")
    commit = clone.commit("many", {".gitmodules": modules})
    clone.git("push", "--quiet", "origin", "main")
    with pytest.raises(errors.InvalidError, match="more than 50 submodules"):
        server.host.export("workspace", "mnist", commit, tmp_path / "out")


def test_a_checkout_can_be_a_git_repository_with_its_commit(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    clone.commit("first", {"a/b.txt": "1\n"})
    (clone.folder / "link").symlink_to("train.py")
    (clone.folder / "run.sh").write_text("#!/bin/sh\n")
    (clone.folder / "run.sh").chmod(0o755)
    commit = clone.commit("second", {"a/b.txt": "2\n"})
    clone.git("push", "--quiet", "origin", "main")
    out = tmp_path / "out"
    server.host.export("workspace", "mnist", commit, out)

    server.host.add_repository("workspace", "mnist", commit, out)

    def git(*arguments: str) -> str:
        return commands.run(["git", "-C", str(out), *arguments], environment=githost.ENVIRONMENT).stdout.strip()

    assert git("rev-parse", "HEAD") == commit
    assert git("status", "--porcelain") == ""
    assert git("log", "--format=%s") == "second"
    assert git("describe", "--always", "--dirty") == commit[:7]
    assert git("config", "remote.origin.url") == server.host.clone_url("workspace", "mnist")
    git("fsck", "--strict")
    (out / "a/b.txt").write_text("3\n")
    assert git("status", "--porcelain") == "M a/b.txt"


def test_identity_files_of_a_commit_are_preserved(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    commit = clone.commit("identity", {".fuseml/_org": "elsewhere"})
    clone.git("push", "--quiet", "origin", "main")
    server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert [(tmp_path / "out" / ".fuseml" / name).read_text() for name in ("_org", "_project")] == ["elsewhere", "mnist"]


@pytest.mark.parametrize(
    "links",
    [{"out": "/etc/passwd"}, {"out": "../../secret"}, {"a/b/up": "../..", "out": "a/b/up/../secret"}, {"one": "two", "two": ".."}],
    ids=["absolute", "upwards", "through another link", "a chain"],
)
def test_links_that_lead_outside_are_rejected(server: githost.Server, clone: githost.Clone, tmp_path: Path, links: dict[str, str]) -> None:
    for name, target in links.items():
        (clone.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (clone.folder / name).symlink_to(target)
    commit = clone.commit("links")
    clone.git("push", "--quiet", "origin", "main")
    with pytest.raises(errors.InvalidError, match=r"lead out of the codeset: .*(out|one|two)"):
        server.host.export("workspace", "mnist", commit, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("name", [b"..", b".git", b".GIT", b"."])
def test_trees_with_invalid_names_are_rejected(server: githost.Server, clone: githost.Clone, tmp_path: Path, name: bytes) -> None:
    with server.host.open("workspace", "mnist") as repository:
        blob, inner, outer = objects.Blob.from_string(b"evil"), objects.Tree(), objects.Tree()
        inner.add(b"file", 0o100644, blob.id)
        outer.add(name, 0o040000, inner.id)
        commit = objects.Commit()
        commit.tree, commit.author, commit.committer, commit.message = outer.id, b"E <e@x>", b"E <e@x>", b"evil"
        commit.commit_time = commit.author_time = commit.commit_timezone = commit.author_timezone = 0
        for git_object in (blob, inner, outer, commit):
            repository.object_store.add_object(git_object)
    with pytest.raises(errors.InvalidError, match="which is not allowed in a checkout"):
        server.host.export("workspace", "mnist", commit.id.decode(), tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").rglob("*")) == [tmp_path / "deep" / "out"]


def test_an_export_requires_an_empty_directory_and_a_known_commit(server: githost.Server, clone: githost.Clone, tmp_path: Path) -> None:
    commit = clone.git("rev-parse", "HEAD")
    with pytest.raises(errors.ConflictError, match="is not empty"):
        server.host.export("workspace", "mnist", commit, clone.folder)
    for unknown in ("1" * 40, "main", "", "../x", "\u00e9" * 40):
        with pytest.raises(errors.NotFoundError, match="has no commit"):
            server.host.export("workspace", "mnist", unknown, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_changed_paths_compare_two_commits(server: githost.Server, clone: githost.Clone) -> None:
    before = clone.git("rev-parse", "HEAD")
    clone.git("mv", "train.py", "fit.py")
    after = clone.commit("second", {"a/b.txt": "x"})
    clone.git("push", "--quiet", "origin", "main")
    assert server.host.changed_paths("workspace", "mnist", before, after) == ["a/b.txt", "fit.py", "train.py"]
    assert server.host.changed_paths("workspace", "mnist", after, after) == []
    assert server.host.changed_paths("workspace", "mnist", payload.ZERO, after) is None


def test_another_process_reads_the_folder_of_repositories(server: githost.Server, clone: githost.Clone) -> None:
    first = clone.git("rev-parse", "HEAD")
    reader = githosts.connect(server.root.as_uri(), "", "")
    assert reader.paths("workspace", "mnist", first) == ["train.py"]
    assert reader.clone_url("workspace", "mnist") == f"{server.root.as_uri()}/workspace/mnist.git"
    # A push that the owner has not completed: the reader leaves it alone.
    folder = server.root / "workspace" / "mnist.git"
    (folder / payload.INTENT).write_bytes(b"unfinished")
    assert reader.heads("workspace", "mnist") == {"refs/heads/main": first}
    assert (folder / payload.INTENT).read_bytes() == b"unfinished"
    (folder / payload.INTENT).unlink()
    for url in ("file://elsewhere/srv", "file://"):
        with pytest.raises(errors.InvalidError, match="must be file:///FOLDER"):
            githosts.connect(url, "", "")


def test_creation_and_deletion_of_a_repository_are_idempotent(server: githost.Server, clone: githost.Clone) -> None:
    server.host.create_repository("workspace", "mnist")
    assert server.host.heads("workspace", "mnist")
    server.host.delete_repository("workspace", "mnist")
    server.host.delete_repository("workspace", "mnist")
    with pytest.raises(errors.NotFoundError, match="no codeset workspace/mnist"):
        server.host.heads("workspace", "mnist")
    server.host.create_repository("workspace", "mnist")
    assert server.host.heads("workspace", "mnist") == {}
    assert [path.name for path in server.root.iterdir()] == ["workspace"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", "a.git", "-x", ".hidden"])
def test_invalid_names_are_rejected(server: githost.Server, name: str) -> None:
    for project, codeset in ((name, "mnist"), ("workspace", name)):
        with pytest.raises(errors.InvalidError, match="not a valid name"):
            server.host.create_repository(project, codeset)


def test_the_application_starts_without_dulwich() -> None:
    code = "import sys, fuseml.githosts.smart_http; sys.exit('dulwich' in sys.modules)"
    commands.python(code)
