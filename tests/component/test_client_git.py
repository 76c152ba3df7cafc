"""Pushes by the real git program to a real git server with authentication."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dulwich import repo, web
from dulwich.server import BackendRepo, DictBackend

from fuseml.client import git
from fuseml.domain import errors
from tests import commands
from tests.component import canned_api

PASSWORD = "canary-password-4711"
_ENVIRONMENT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@dataclass(frozen=True)
class Host:
    url: str
    folder: Path

    def remote(self, password: str = PASSWORD, **environment: str) -> git.Remote:
        return git.Remote(self.url, "fuseml-demo", password, {**_ENVIRONMENT, **environment})

    def git(self, *arguments: str) -> str:
        return commands.run(["git", *arguments], cwd=self.folder, environment=_ENVIRONMENT).stdout.strip()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """An empty repository behind smart HTTP with basic authentication."""
    folder = tmp_path / "host"
    folder.mkdir()
    with contextlib.closing(repo.Repo.init_bare(folder, default_branch=b"main")) as repository:
        repositories: dict[str, BackendRepo] = {"/demo/diabetes.git": repository}
        served = web.make_wsgi_chain(DictBackend(repositories))
        expected = "Basic " + base64.b64encode(f"fuseml-demo:{PASSWORD}".encode()).decode()

        def guarded(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            if environ.get("HTTP_AUTHORIZATION") != expected:
                start_response("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="git"'), ("Content-Length", "0")])
                return [b""]
            return served(environ, start_response)

        with canned_api.running(guarded) as url:
            yield Host(f"{url}/demo/diabetes.git", folder)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "sub").mkdir(parents=True)
    (folder / "train.py").write_text("print('süß')\n")
    (folder / "sub" / "data.csv").write_text("1,2\n")
    (folder / ".gitignore").write_text("*.pkl\n")
    (folder / "model.pkl").write_text("large")
    return folder


def test_a_folder_becomes_the_first_version_without_ignored_files(host: Host, code: Path) -> None:
    result = host.remote().push_folder(code, "First version")
    assert result.changed
    assert host.git("rev-parse", "main") == result.commit
    assert host.git("ls-tree", "-r", "--name-only", "main").splitlines() == [".gitignore", "sub/data.csv", "train.py"]
    assert host.git("show", "main:train.py") == "print('süß')"
    assert host.git("log", "-1", "--format=%an <%ae> %s", "main") == "FuseML <fuseml@localhost> First version"


def test_the_same_content_pushes_nothing(host: Host, code: Path) -> None:
    first = host.remote().push_folder(code, "First version")
    assert host.remote().push_folder(code, "Again") == git.PushResult(first.commit, False)
    assert host.git("rev-list", "--count", "main") == "1"


def test_a_removed_file_is_absent_in_the_next_version_and_history_stays(host: Host, code: Path) -> None:
    first = host.remote().push_folder(code, "First version")
    (code / "sub" / "data.csv").unlink()
    (code / "train.py").write_text("print('new')\n")
    second = host.remote().push_folder(code, "Second version")
    assert host.git("rev-parse", "main~1") == first.commit
    assert host.git("rev-parse", "main") == second.commit
    assert host.git("ls-tree", "-r", "--name-only", "main").splitlines() == [".gitignore", "train.py"]


def test_the_folder_and_a_repository_in_it_are_unchanged(host: Host, code: Path) -> None:
    commands.run(["git", "init", "--quiet"], cwd=code, environment=_ENVIRONMENT)
    before = {path: path.stat().st_mtime_ns for path in sorted(code.rglob("*"))}
    host.remote(GIT_DIR=str(code / ".git")).push_folder(code, "From a checkout")
    assert {path: path.stat().st_mtime_ns for path in sorted(code.rglob("*"))} == before
    assert ".git/config" not in host.git("ls-tree", "-r", "--name-only", "main")


def test_the_author_is_the_identity_configured_in_git(host: Host, code: Path, tmp_path: Path) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\nname = Ada\nemail = ada@example.org\n[commit]\ngpgSign = true\n")
    host.remote(GIT_CONFIG_GLOBAL=str(config)).push_folder(code, "Mine")
    assert host.git("log", "-1", "--format=%an <%ae>", "main") == "Ada <ada@example.org>"


def test_the_password_is_in_no_argument_and_no_file(host: Host, code: Path, tmp_path: Path) -> None:
    real = shutil.which("git")
    trace = tmp_path / "trace"
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    # Records its arguments, and after each command the configuration of the repository.
    wrapper.write_text(
        f'#!/bin/sh\necho "$@" >> {trace}\n{real} "$@"\ncode=$?\ncat "${{GIT_DIR:-.git}}"/config >> {trace} 2>/dev/null\nexit $code\n'
    )
    wrapper.chmod(0o755)
    remote = host.remote(PATH=f"{wrapper.parent}:{os.environ['PATH']}")
    remote.push_folder(code, "First version")
    remote.clone(tmp_path / "checkout")
    (tmp_path / "checkout" / "train.py").write_text("changed\n")
    commit = remote.commit(tmp_path / "checkout", "Change")
    remote.push(tmp_path / "checkout")
    assert host.git("rev-parse", "main") == commit
    recorded = trace.read_text()
    secrets = (PASSWORD, base64.b64encode(f"fuseml-demo:{PASSWORD}".encode()).decode())
    assert "push" in recorded
    assert "[core]" in recorded
    for text in (
        recorded,
        repr(remote),
        *(path.read_text(errors="replace") for path in (tmp_path / "checkout").rglob("*") if path.is_file()),
    ):
        assert not any(secret in text for secret in secrets)


def test_an_inherited_git_configuration_is_kept(host: Host, code: Path) -> None:
    remote = host.remote(
        GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="user.name", GIT_CONFIG_VALUE_0="Grace", GIT_AUTHOR_EMAIL="grace@example.org"
    )
    remote.push_folder(code, "Hers")
    assert host.git("log", "-1", "--format=%ae", "main") == "grace@example.org"


def test_wrong_credentials_are_unauthenticated_and_not_shown(host: Host, code: Path) -> None:
    with pytest.raises(errors.UnauthenticatedError, match="refused the credentials") as caught:
        host.remote("another-canary").push_folder(code, "No")
    assert "canary" not in caught.value.message


def test_a_missing_repository_is_an_error(host: Host, code: Path) -> None:
    missing = git.Remote(host.url.replace("diabetes", "missing"), "fuseml-demo", PASSWORD, _ENVIRONMENT)
    with pytest.raises(errors.FusemlError, match="missing"):
        missing.push_folder(code, "No")


def test_an_unreachable_git_server_is_a_temporary_error(code: Path) -> None:
    with pytest.raises(errors.TemporaryError, match="no git server answers"):
        git.Remote("http://127.0.0.1:1/demo/diabetes.git", environment=_ENVIRONMENT).push_folder(code, "No")


def test_a_folder_without_files_is_refused_with_the_reason(host: Host, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.InvalidError, match="contains no files"):
        host.remote().push_folder(tmp_path / "empty", "Nothing")
    with pytest.raises(errors.InvalidError, match="is not a folder"):
        host.remote().push_folder(tmp_path / "missing", "Nothing")


def test_a_missing_git_program_is_an_error_with_advice(host: Host, code: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.PermanentError, match="install git"):
        git.Remote(host.url, environment={"PATH": str(tmp_path)}).push_folder(code, "No")


def test_a_push_that_lost_a_race_is_a_conflict(host: Host, code: Path, tmp_path: Path) -> None:
    remote = host.remote()
    remote.push_folder(code, "First version")
    remote.clone(tmp_path / "checkout")
    (code / "train.py").write_text("meanwhile\n")
    remote.push_folder(code, "Meanwhile")
    (tmp_path / "checkout" / "train.py").write_text("too late\n")
    remote.commit(tmp_path / "checkout", "Too late")
    with pytest.raises(errors.ConflictError, match="push again"):
        remote.push(tmp_path / "checkout")


def test_a_public_repository_can_be_the_source(host: Host, code: Path, tmp_path: Path) -> None:
    host.remote().push_folder(code, "First version")
    git.clone_source(f"file://{host.folder}", tmp_path / "source", _ENVIRONMENT)
    assert (tmp_path / "source" / "train.py").read_text() == "print('süß')\n"
