"""`fuseml agent check`: the shipped agents keep every rule, and each broken rule of an agent is found."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flask
import pytest
from werkzeug.serving import make_server

from fuseml.agents import command, conformance, folder_store, jobs, store, store_conformance, workload, workload_conformance
from fuseml.artifactstores import About, Description, Location, Opened, Page, Place
from fuseml.cli import main
from fuseml.domain import errors
from fuseml.domain.artifact import Address
from tests import agents


def run(capsys: pytest.CaptureFixture[str], *arguments: str, token: str = agents.TOKEN) -> tuple[int, str, str]:
    code = main.run(["agent", "check", *arguments], {"FUSEML_AGENT_TOKEN": token} if token else {})
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_shipped_store_agent_keeps_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with agents.store(tmp_path) as agent:
        code, out, err = run(capsys, agent.url)
        assert (code, err.splitlines()[-1]) == (0, "16 passed, 0 failed, 4 skipped"), out
        rows = [line.split()[0] for line in out.splitlines()]
        assert rows[0] == "RESULT" and {*rows[1:]} == {"passed", "skipped"}
        assert "it declares no 'label'" in out
        code, out, _ = run(capsys, agent.url, "-o", "json")
        results = json.loads(out)
        assert (code, len(results), {*results[0]}) == (0, 20, {"rule", "result", "detail"})
        assert [path for path in (agent.folder / "artifacts").rglob("versions/*") if path.is_file()] == []
        # A wrong token breaks nearly every rule.
        code, out, _ = run(capsys, agent.url, token="wrong-token-of-some-length")
        assert code == 1 and "refuses the token" in out and agents.TOKEN not in out


def test_the_shipped_workload_agent_keeps_every_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "job.sh"
    script.write_text('#!/bin/sh\nset -e; echo hello; sleep "$FUSEML_SECONDS"; echo 1 > $FUSEML_ENV_RESULTS/one\n')
    script.chmod(0o755)
    with agents.command(tmp_path, str(script)) as agent:
        code, out, err = run(capsys, agent.url, "--parameter", "seconds=0.2")
        assert (code, err.splitlines()[-1]) == (0, "11 passed, 0 failed, 0 skipped"), out
        code, out, _ = run(capsys, agent.url, "--parameter", "seconds=x", "-o", "json")
        failed = {item["rule"]: item["detail"] for item in json.loads(out) if item["result"] == "failed"}
        assert code == 1
        assert "give its parameters with --parameter" in failed["runs a job to its end"]


def test_a_server_that_is_no_agent_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "http://127.0.0.1:1")
    assert code == 1 and "does not answer" in err
    with serving(flask.Flask("other")) as url:
        code, _, err = run(capsys, url)
        assert code == 1 and "is no agent" in err
        assert "set FUSEML_AGENT_TOKEN" in run(capsys, url, token="")[2]
        assert "a --parameter is NAME=VALUE" in run(capsys, url, "--parameter", "x")[2]


@contextlib.contextmanager
def serving(app: flask.Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# Broken stores


class Unpaged(folder_store.FolderStore):
    def versions(self, kind: str, project: str, name: str, after: str = "", limit: int = 100) -> Page:
        page = super().versions(kind, project, name, after, limit)
        return Page([*reversed(super().versions(kind, project, name).versions)][:limit], page.after)


class Known(folder_store.FolderStore):
    def describe(self, address: Address) -> Description:
        try:
            return super().describe(address)
        except errors.NotFoundError:
            return Description(address, "", 1)


class Early(folder_store.FolderStore):
    def write(self, place: Place, sources: Any) -> str:
        digest = super().write(place, sources)
        self.commit(place, digest)
        return digest


class Forgetful(folder_store.FolderStore):
    def commit(self, place: Place, digest: str, about: About = About()) -> Address:  # noqa: B008
        return super().commit(place, digest)


class Damaging(folder_store.FolderStore):
    def open(self, address: Address) -> Opened:
        opened = super().open(address)
        return Opened(address, opened.files, lambda file: (block[::-1] for block in opened.fetch(file)))


class Sticky(folder_store.FolderStore):
    def tag(self, address: Address, tag: str) -> None:
        with contextlib.suppress(errors.NotFoundError):
            self.resolve(address.kind, address.project, address.name, tag)
            return
        super().tag(address, tag)


class Keeping(folder_store.FolderStore):
    def delete(self, address: Address) -> None:
        """Keeps it."""

    def untag(self, address: Address, tag: str) -> None:
        """Keeps it."""


class Lost(folder_store.FolderStore):
    def locate(self, address: Address) -> Location:
        return Location(super().locate(address).uri, "sha256:" + "0" * 64, 1)


class Failing(folder_store.FolderStore):
    def describe(self, address: Address) -> Description:
        raise RuntimeError("canary")


@pytest.mark.parametrize(
    ("broken", "rules"),
    [
        (Unpaged, {"lists versions by pages, the oldest first"}),
        (Known, {"answers not_found for an unknown version and an unknown tag"}),
        (Early, {"keeps written contents invisible until their commit"}),
        (Forgetful, {"describes, lists and locates a committed version"}),
        (Damaging, {"reads files unchanged"}),
        (Sticky, {"moves a tag between versions"}),
        (Keeping, {"deletes a version with its tags, and again without effect", "removes a tag"}),
        (Lost, {"describes, lists and locates a committed version"}),
        (Failing, {"describes, lists and locates a committed version", "makes the same contents one version"}),
    ],
)
def test_each_broken_rule_of_a_store_is_found(
    tmp_path: Path, broken: Callable[[Path, str], folder_store.FolderStore], rules: set[str]
) -> None:
    with serving(store.create_app(broken(tmp_path / "artifacts", "http://agent"), agents.TOKEN, tmp_path / "uploads")) as url:
        results = conformance.checked(store_conformance.StoreChecks(url, agents.TOKEN).all())
    failed = {result.rule: result.detail for result in results if result.result == "failed"}
    assert rules <= failed.keys(), failed
    assert all(failed.values()) and "canary" not in str(failed)


def test_an_agent_that_admits_every_caller_is_found(tmp_path: Path) -> None:
    admitted = store.create_app(folder_store.FolderStore(tmp_path / "artifacts", "http://agent"), agents.TOKEN, tmp_path / "uploads")

    def admit(environ: dict[str, Any], start_response: Any) -> Any:
        return admitted.wsgi_app({**environ, "HTTP_AUTHORIZATION": f"Bearer {agents.TOKEN}"}, start_response)

    app = flask.Flask("admitting")
    app.wsgi_app = admit  # type: ignore[method-assign]
    with serving(app) as url:
        results = conformance.checked(store_conformance.StoreChecks(url, agents.TOKEN).all())
    assert [result.rule for result in results if result.result == "failed"] == ["refuses a caller without the token"]


# Broken workloads


class Memory:
    """A workload whose jobs succeed at once."""

    def __init__(self) -> None:
        self.jobs: dict[str, jobs.Job] = {}
        self.starts = 0

    def start(self, id: str, job: jobs.Job) -> None:
        self.starts += 1
        if self.jobs.setdefault(id, job) != job:
            raise errors.ConflictError("another job")

    def status(self, id: str) -> jobs.Status:
        if id not in self.jobs:
            raise errors.NotFoundError("no job")
        return jobs.Status("succeeded", "", 1, 2)

    def logs(self, id: str, offset: int) -> bytes:
        self.status(id)
        return b"a log"[offset:]

    def cancel(self, id: str) -> None:
        self.status(id)

    def outputs(self, id: str) -> Mapping[str, str]:
        self.status(id)
        return {"one": "1"}


class Careless(Memory):
    def start(self, id: str, job: jobs.Job) -> None:
        self.jobs[id] = job


class Changing(Memory):
    def outputs(self, id: str) -> Mapping[str, str]:
        self.starts += 1
        return {"one": str(self.starts)}


class Undone(Memory):
    def __init__(self) -> None:
        super().__init__()
        self.cancelled: set[str] = set()

    def cancel(self, id: str) -> None:
        self.status(id)
        self.cancelled.add(id)

    def status(self, id: str) -> jobs.Status:
        found = super().status(id)
        return jobs.Status("cancelled", "", 1, 2) if id in self.cancelled else found


class Repeating(Memory):
    def logs(self, id: str, offset: int) -> bytes:
        self.status(id)
        return b"a log"


class Inventive(Memory):
    def status(self, id: str) -> jobs.Status:
        return jobs.Status("succeeded", "", 1, 2)


class Endless(Memory):
    def status(self, id: str) -> jobs.Status:
        super().status(id)
        return jobs.Status("running", "", 1, 0)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (Careless, "refuses another job under the same id"),
        (Changing, "keeps outputs and log of an ended job"),
        (Undone, "leaves an ended job unchanged by a cancellation"),
        (Repeating, "keeps outputs and log of an ended job"),
        (Inventive, "answers not_found for an unknown job"),
        (Endless, "runs a job to its end"),
        (Endless, "gives no outputs before the end"),
    ],
)
def test_each_broken_rule_of_a_workload_is_found(broken: Callable[[], Memory], rule: str) -> None:
    with serving(workload.create_app(broken(), agents.TOKEN)) as url:
        results = conformance.checked(workload_conformance.WorkloadChecks(url, agents.TOKEN, {}, 0.5).all())
    assert rule in {result.rule for result in results if result.result == "failed"}


def test_a_workload_in_memory_keeps_every_rule() -> None:
    with serving(workload.create_app(Memory(), agents.TOKEN)) as url:
        results = conformance.checked(workload_conformance.WorkloadChecks(url, agents.TOKEN, {}, 5.0).all())
    assert [(result.rule, result.detail) for result in results if result.result != "passed"] == []


def test_a_token_that_is_too_short_is_refused(tmp_path: Path) -> None:
    settings = {"FUSEML_AGENT_FOLDER": str(tmp_path), "FUSEML_AGENT_URL": "http://agent", "FUSEML_AGENT_COMMAND": "true"}
    for create in (folder_store.create_app, command.create_app):
        with pytest.raises(errors.InvalidError, match="needs at least 16 characters"):
            create({**settings, "FUSEML_AGENT_TOKEN": "short"})
        with pytest.raises(errors.InvalidError, match="the agent needs FUSEML_AGENT_TOKEN in its environment"):
            create(settings)
