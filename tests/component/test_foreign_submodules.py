"""Submodules of other hosts on the local engine: fetched by a confined process, without credentials, at exactly their commits."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dulwich import repo, web
from dulwich.server import BackendRepo, DictBackend

from fuseml.domain import plans
from fuseml.engines import local
from fuseml.engines.local import process
from tests import commands
from tests.contract import engines
from tests.waiting import PATIENCE, wait_until

from . import canned_api, githost, steps

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

server, clone = githost.server, githost.clone
SCRIPT = "cat libs/*/lib.py libs/*/deep/*.py 2>/dev/null || true; ls -A libs/*"


@dataclass
class Elsewhere:
    """Another git host, which serves repositories to everyone, and the headers of the requests it got."""

    url: str
    folder: Path
    repositories: dict[str, BackendRepo]
    requests: list[dict[str, str]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)

    def publish(
        self,
        name: str,
        *versions: Mapping[str, str],
        submodules: Mapping[str, tuple[str, str]] | None = None,
        links: Mapping[str, str] | None = None,
    ) -> list[str]:
        """A repository with these versions; its commits. `submodules`: path -> address and commit; `links`: path -> commit, without address."""
        work = githost.Clone.fresh("unused", self.folder / name)
        for path, commit in ({path: commit for path, (_, commit) in (submodules or {}).items()} | {**(links or {})}).items():
            (work.folder / path).mkdir(parents=True)
            work.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
        commits = [work.commit("a version", {**files, **modules(submodules or {})}) for files in versions]
        self.repositories[f"/{name}.git"] = repo.Repo(work.folder)
        return commits


def modules(submodules: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The file `.gitmodules`."""
    parts = [f'[submodule "{path}"]\n\tpath = {path}\n\turl = {url}\n' for path, (url, _) in submodules.items()]
    return {".gitmodules": "".join(parts)} if parts else {}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Elsewhere]:
    repositories: dict[str, BackendRepo] = {}
    served = web.make_wsgi_chain(DictBackend(repositories))
    made = Elsewhere("", tmp_path / "elsewhere", repositories)
    made.folder.mkdir()

    def recording(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        made.requests.append({name: str(value) for name, value in environ.items() if name.startswith(("HTTP_", "PATH_"))})
        if environ["PATH_INFO"].startswith("/slow.git"):
            made.hold.wait(PATIENCE)
        return served(environ, start_response)

    with canned_api.running(recording) as url:
        made.url = url
        yield made
        made.hold.set()
    for repository in repositories.values():
        with contextlib.suppress(AttributeError):
            repository.close()  # type: ignore[attr-defined]


def plan_of(server: githost.Server, clone: githost.Clone, submodules: Mapping[str, tuple[str, str]], **more: int) -> plans.Plan:
    """A run of one step over a codeset with these submodules."""
    for path, (_, commit) in submodules.items():
        (clone.folder / path).mkdir(parents=True)
        clone.git("update-index", "--add", "--cacheinfo", f"160000,{commit},{path}")
    commit = clone.commit("submodules", modules(submodules))
    clone.git("push", "--quiet", "origin", "main")
    url = server.host.clone_url("workspace", "mnist")
    checkout = plans.Checkout(name="code", project="workspace", codeset="mnist", url=url, ref="main", commit=commit, path="/project")
    return engines.make_plan(engines.shell("s", SCRIPT, checkouts=(checkout,)).model_copy(update=more))


def options(server: githost.Server) -> engines.EngineOptions:
    def check_out(checkout: plans.Checkout, directory: Path) -> Sequence[plans.Submodule]:
        return server.host.export(checkout.project, checkout.codeset, checkout.commit, directory)

    # The user's git would give its credentials to any host.
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.extraHeader"}
    environment |= {"GIT_CONFIG_VALUE_0": "Authorization: Basic canary", "GIT_ASKPASS": "/bin/echo"}
    return {"checkout": check_out, "environment": environment, "grace": 0.2}


def run(tmp_path: Path, plan: plans.Plan, given: engines.EngineOptions) -> tuple[engines.RunProgress, str]:
    with engines.local_engine(tmp_path / "engine", **given) as under_test:
        return under_test.run(plan), under_test.log(plan, "s")


def test_submodules_of_other_hosts_are_fetched_at_their_commits_without_credentials(
    server: githost.Server, clone: githost.Clone, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    [deep] = elsewhere.publish("deep", {"deep.py": "DEEP = 3\n"})
    old, _ = elsewhere.publish("old", {"lib.py": "OLD = 1\n"}, {"lib.py": "NEW = 1\n"})
    [tip] = elsewhere.publish("tip", {"lib.py": "TIP = 2\n"}, submodules={"deep": ("../deep.git", deep)})
    address = elsewhere.url.replace("://", "://user:canary-token@")
    plan = plan_of(server, clone, {"libs/old": (f"{elsewhere.url}/old.git", old), "libs/tip": (f"{address}/tip.git", tip)})
    result, log = run(tmp_path, plan, options(server))
    assert result.states == {"s": "succeeded"}, log
    assert "OLD = 1\nTIP = 2\nDEEP = 3\n" in log
    assert f"submodule libs/old: {elsewhere.url}/old.git at {old[:12]}" in log
    assert "canary" not in log
    assert "_submodules" not in log
    assert elsewhere.requests
    assert all("HTTP_AUTHORIZATION" not in request for request in elsewhere.requests)


def test_what_cannot_be_fetched_is_left_out_with_the_reason(
    server: githost.Server, clone: githost.Clone, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    githost.Clone.fresh("unused", secret).commit("private", {"lib.py": "PRIVATE = 1\n"})
    head = githost.git("rev-parse", "HEAD", cwd=secret)
    elsewhere.publish("lib", {"lib.py": "LIB = 1\n"})
    addresses = {
        "ssh": "git@git.example.com:team/lib.git",
        "file": f"file://{secret}",
        "path": str(secret),
        "ext": "ext::sh -c echo% canary",
        "gone": f"{elsewhere.url}/gone.git",
        "commit": f"{elsewhere.url}/lib.git",
        "option": "--upload-pack=touch canary",
        "broken": "http://[canary",
    }
    plan = plan_of(server, clone, {f"libs/{name}": (url, head) for name, url in addresses.items()})
    result, log = run(tmp_path, plan, options(server))
    assert result.states == {"s": "succeeded"}, log
    for name in addresses:
        assert f"note: the submodule libs/{name} is left out: " in log
    assert "only addresses of https and http are fetched, none of ssh; change it in .gitmodules" in log
    assert "PRIVATE" not in log
    assert "LIB = 1" not in log
    assert ".git\n" not in log


def test_a_chain_of_submodules_ends(server: githost.Server, clone: githost.Clone, elsewhere: Elsewhere, tmp_path: Path) -> None:
    inner: dict[str, tuple[str, str]] = {}
    for number in range(7):
        [commit] = elsewhere.publish(f"c{number}", {"lib.py": f"C{number} = 1\n"}, submodules=inner)
        inner = {"in": (f"../c{number}.git", commit)}
    plan = plan_of(server, clone, {"libs/c": (f"{elsewhere.url}/c6.git", inner["in"][1])})
    _, log = run(tmp_path, plan, options(server))
    assert "note: the submodule libs/c/in/in/in/in/in is left out: a checkout has at most 50 of them, and 5 inside one another" in log


def test_a_fetch_ends_with_its_step(server: githost.Server, clone: githost.Clone, elsewhere: Elsewhere, tmp_path: Path) -> None:
    [step] = plan_of(server, clone, {"libs/slow": (f"{elsewhere.url}/slow.git", "1" * 40)}).steps
    for timeout in (1, 5, 25):  # a busy machine may take longer to begin the fetch
        plan = engines.make_plan(step.model_copy(update={"timeout": timeout}))
        with engines.local_engine(tmp_path / f"engine{timeout}", **options(server)) as under_test:
            result = under_test.run(plan)
        assert result.states == {"s": "failed"}
        assert f"timed out after {timeout} s" in str(result.steps["s"].cause)
        if elsewhere.requests:
            return
    pytest.fail("the fetch never began")


def test_a_cancelled_run_ends_its_fetch(server: githost.Server, clone: githost.Clone, elsewhere: Elsewhere, tmp_path: Path) -> None:
    plan = plan_of(server, clone, {"libs/slow": (f"{elsewhere.url}/slow.git", "1" * 40)})
    with engines.local_engine(tmp_path / "engine", **options(server)) as under_test:
        under_test.engine.submit(plan, {})
        wait_until(lambda: bool(elsewhere.requests), "the fetch to begin")
        under_test.engine.cancel(plan.id, "enough")
        assert under_test.inbox.finished(plan.id).states == {"s": "cancelled"}


def test_a_submodule_has_the_limit_of_a_step(server: githost.Server, clone: githost.Clone, elsewhere: Elsewhere, tmp_path: Path) -> None:
    [commit] = elsewhere.publish("large", {"lib.py": os.urandom(4 << 20).hex()})
    plan = plan_of(server, clone, {"libs/large": (f"{elsewhere.url}/large.git", commit)}, retries=2)
    result, _ = run(tmp_path, plan, {**options(server), "limits": local.StepLimits(disk=2 << 20)})
    assert result.states == {"s": "failed"}
    assert "it wrote more than 2 MiB; the server's setting FUSEML_STEP_DISK_LIMIT" in str(result.steps["s"].cause)


SERVER = """
import json, pathlib, sys, threading
from fuseml.domain import plans
from tests.contract import engines

folder, plan, listed = pathlib.Path(sys.argv[1]), plans.Plan.model_validate_json(sys.argv[2]), sys.argv[3]

def check_out(checkout, directory):
    (directory / "lib").mkdir()
    return [plans.Submodule(**json.loads(listed))]

with engines.local_engine(folder, checkout=check_out) as under_test:
    under_test.engine.submit(plan, {})
    threading.Event().wait()
"""


def test_a_fetch_that_the_death_of_the_server_interrupted_begins_anew(elsewhere: Elsewhere, tmp_path: Path) -> None:
    [commit] = elsewhere.publish("slow", {"lib.py": "LIB = 1\n"})
    submodule = plans.Submodule("lib", f"{elsewhere.url}/slow.git", commit)
    checkout = plans.Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")
    plan = engines.make_plan(engines.shell("s", "cat lib/lib.py; ls -A lib", checkouts=(checkout,)))
    folder = tmp_path / "engine"
    arguments = [sys.executable, "-c", SERVER, str(folder), plan.model_dump_json(), json.dumps(dataclasses.asdict(submodule))]
    with subprocess.Popen(arguments, cwd=Path(__file__).parents[2]) as server:
        wait_until(lambda: bool(elsewhere.requests), "the fetch to begin")
        server.kill()
    fetching = folder / "runs" / plan.id / "checkouts" / "p" / f".c@{'a' * 40}.fetch"
    assert fetching.is_dir()
    wait_until(lambda: not process.held(fetching), "the end of the fetch of the dead server")
    elsewhere.hold.set()

    def check_out(checkout: plans.Checkout, directory: Path) -> Sequence[plans.Submodule]:
        (directory / "lib").mkdir()
        return [submodule]

    with engines.local_engine(folder, checkout=check_out) as under_test:
        assert under_test.inbox.finished(plan.id).states == {"s": "succeeded"}
        assert "LIB = 1\nlib.py\n" in under_test.log(plan, "s")


def fetch(checkout: Path, *submodules: plans.Submodule, **variables: str) -> str:
    """Run the fetching process in a checkout; returns its log."""
    listed = checkout.with_name("listed.json")
    listed.write_text(json.dumps([dataclasses.asdict(submodule) for submodule in submodules]))
    command = [*steps.command("submodules"), str(listed)]
    return commands.run(command, cwd=checkout, environment=steps.environment(checkout, variables)).stdout


def test_without_git_the_submodules_are_left_out(tmp_path: Path) -> None:
    lib = tmp_path / "checkout" / "lib"
    lib.mkdir(parents=True)
    log = fetch(lib.parent, plans.Submodule("lib", "https://git.example.com/lib.git", "1" * 40), PATH=str(tmp_path))
    assert list(lib.iterdir()) == []
    assert "note: the submodule lib is left out: git is not installed on this machine" in log


def test_a_commit_cannot_name_submodules_by_a_file_of_the_engine(
    server: githost.Server, clone: githost.Clone, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    [commit] = elsewhere.publish("lib", {"lib.py": "LIB = 1\n"})
    forged = json.dumps([{"path": "libs/forged", "url": f"{elsewhere.url}/lib.git", "commit": commit}])
    clone.commit("a list", {".fuseml/_submodules": forged, ".fuseml/submodules.json": forged, "submodules.json": forged})
    plan = plan_of(server, clone, {"libs/true": (f"{elsewhere.url}/lib.git", commit)})
    result, log = run(tmp_path, plan, options(server))
    assert result.states == {"s": "succeeded"}, log
    assert "submodule libs/true: " in log
    assert "forged" not in log
    listed = server.host.export("workspace", "mnist", clone.git("rev-parse", "HEAD"), tmp_path / "out")
    assert [submodule.path for submodule in listed] == ["libs/true"]
    assert (tmp_path / "out" / ".fuseml" / "_submodules").read_text() == forged


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../victim",
            "lib/../../victim",
            "{outside}",
            "",
            ".",
            "lib/..",
            "/",
            "link/victim",
            "inner/lib",
            "lib\0",
            "gone",
            "./lib",
            "lib/",
        ),
        *("kept", ".git/hooks", "lib/.GIT", "train.py"),
    ],
)
def test_a_submodule_is_fetched_into_an_empty_folder_of_the_checkout_only(elsewhere: Elsewhere, tmp_path: Path, path: str) -> None:
    [commit] = elsewhere.publish("lib", {"lib.py": "LIB = 1\n"})
    checkout, victim = tmp_path / "checkout", tmp_path / "victim"
    for folder in (victim, checkout / "lib" / ".GIT", checkout / "kept", checkout / ".git" / "hooks"):
        folder.mkdir(parents=True)
    for file in (checkout / "kept" / "kept", checkout / "train.py"):
        file.touch()
    (checkout / "link").symlink_to("..")
    (checkout / "inner").symlink_to(".")
    before = sorted(tmp_path.rglob("*"))
    log = fetch(checkout, plans.Submodule(path.format(outside=victim), f"{elsewhere.url}/lib.git", commit))
    assert "is left out: its " in log
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "listed.json"] == before
    assert elsewhere.requests == []


def test_a_folder_is_fetched_once(elsewhere: Elsewhere, tmp_path: Path) -> None:
    [commit] = elsewhere.publish("lib", {"lib.py": "LIB = 1\n"})
    (tmp_path / "checkout" / "lib").mkdir(parents=True)
    log = fetch(tmp_path / "checkout", *2 * [plans.Submodule("lib", f"{elsewhere.url}/lib.git", commit)])
    assert log.count("submodule lib: ") == 1
    assert "the submodule lib is left out: its folder is missing or has files" in log


def test_a_submodule_includes_no_file_of_the_machine(elsewhere: Elsewhere, tmp_path: Path) -> None:
    [deep] = elsewhere.publish("deep", {"deep.py": "DEEP = 3\n"})
    (tmp_path / "modules").write_text(f'[submodule "deep"]\n\tpath = deep\n\turl = {elsewhere.url}/deep.git\n')
    [tip] = elsewhere.publish("tip", {".gitmodules": f"[include]\n\tpath = {tmp_path / 'modules'}\n"}, links={"deep": deep})
    (tmp_path / "checkout" / "lib").mkdir(parents=True)
    fetch(tmp_path / "checkout", plans.Submodule("lib", f"{elsewhere.url}/tip.git", tip))
    assert list((tmp_path / "checkout" / "lib" / "deep").iterdir()) == []


def test_text_of_a_commit_is_bounded_and_inert_in_the_log(tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    path = "lib\n\x1b[31m" + "x" * 5000 + "\udcff"
    log = fetch(
        tmp_path / "checkout", plans.Submodule(path, "s\x1b" * 5000 + "://[", "1" * 40), plans.Submodule(path, "http://[", "1" * 40)
    )
    assert log.count("is left out: ") == 2
    assert (log.count("\n"), "\x1b" in log, len(log) < 1000) == (2, False, True)
