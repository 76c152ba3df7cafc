"""The tekton engine under test, on the cluster that KUBECONFIG names.

Runs are told by asking the engine again and again, as the sweep does it, so that the suite needs no sink for Tekton's own events. Pods have
to reach this process for their codesets: as FUSEML_TEST_HOST (`host.local`).
FUSEML_TEST_IMAGE_SHELL is an image with a POSIX shell, FUSEML_TEST_IMAGE_GIT one with git besides.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import events, plans
from fuseml.engines import LogChunk
from fuseml.engines.tekton import Cluster, Settings, TektonEngine
from tests import commands
from tests.contract.engines import Inbox, UnderTest
from tests.images import image
from tests.waiting import wait_until

_PAUSE = 0.5
"""Seconds for pods that share a busy machine."""
_GIT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
_WHO = {
    f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
}


@contextlib.contextmanager
def own_namespace(purpose: str) -> Iterator[tuple[str, Any]]:
    """A new namespace, and the core API of the cluster; it is removed in the end. Skips the test without a cluster."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs KUBECONFIG of a cluster with Knative and Tekton")
    from kubernetes import client, config

    config.load_kube_config()
    core = client.CoreV1Api()
    name = f"fuseml-{purpose}-{os.urandom(4).hex()}"
    core.create_namespace({"metadata": {"name": name}})
    try:
        yield name, core
    finally:
        core.delete_namespace(name)
        core.api_client.close()


@contextlib.contextmanager
def tekton_engine(folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[UnderTest]:
    """A tekton engine in a namespace of its own, which is removed in the end. `variables` are those of an installation. Skips the test
    without a cluster."""
    with own_namespace("contract") as (namespace, core), contextlib.closing(Cluster(namespace)) as cluster:
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "contract"}})
        shell = image("SHELL", "dev.local/busybox:1")
        git_image = image("GIT", Settings().git_image)
        with _codesets(folder) as url:
            inbox = Inbox()
            settings = Settings(service_account="contract", git_image=git_image, variables=variables or {})
            engine = Watched(TektonEngine(cluster, settings), inbox, folder, url, namespace)
            with engine.watching():
                flags = core.read_namespaced_config_map("feature-flags", "tekton-pipelines").data or {}
                kept = flags.get("keep-pod-on-cancel") == "true"
                yield UnderTest(engine, inbox, shell, beat=5.0, quotes=False, keeps_ended=kept)


def delete_pods(under: UnderTest) -> None:
    """Delete the pods of every run, as nodes that go away do, and wait until they are gone."""
    from kubernetes import client

    core, namespace = client.CoreV1Api(), under.engine.namespace  # type: ignore[attr-defined]
    core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)
    wait_until(lambda: not core.list_namespaced_pod(namespace).items, "the pods to be gone", interval=_PAUSE)
    core.api_client.close()


def leftovers(under: UnderTest) -> list[str]:
    """The pods, volume claims and Secrets that runs have left."""
    from kubernetes import client

    core, namespace = client.CoreV1Api(), under.engine.namespace  # type: ignore[attr-defined]
    lists = (core.list_namespaced_pod, core.list_namespaced_persistent_volume_claim, core.list_namespaced_secret)
    found = [item.metadata.name for listed in lists for item in listed(namespace).items]
    core.api_client.close()
    return found


class Watched:
    """An engine whose events arrive in an inbox, and whose plans get codesets that exist."""

    def __init__(self, engine: TektonEngine, inbox: Inbox, folder: Path, url: str, namespace: str) -> None:
        self.namespace = namespace
        self._engine = engine
        self._inbox = inbox
        self._folder = folder
        self._url = url
        self._runs: dict[str, set[tuple[str, str]]] = {}
        self._stopping = threading.Event()

    def submit(self, plan: plans.Plan, secrets: Mapping[str, str]) -> None:
        """Submit the plan with checkouts of real commits."""
        steps = tuple(step.model_copy(update={"checkouts": tuple(map(self._real, step.checkouts))}) for step in plan.steps)
        self._engine.submit(plan.model_copy(update={"steps": steps}), secrets)
        self._runs.setdefault(plan.id, set())

    def cancel(self, run_id: str, reason: str) -> None:
        """As the engine does it."""
        self._engine.cancel(run_id, reason)

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """As the engine does it."""
        return self._engine.observe(run_id)

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """As the engine does it."""
        return self._engine.logs(run_id, step, offset, limit)

    def forget(self, run_id: str) -> None:
        """As the engine does it; nothing is asked about the run any more."""
        self._engine.forget(run_id)
        self._runs.pop(run_id, None)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Ask for what is new in the runs that were submitted."""
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(_PAUSE):
            for run_id, known in list(self._runs.items()):
                for event in self._engine.observe(run_id):
                    if (event.source, event.id) not in known:
                        known.add((event.source, event.id))
                        self._inbox.put(event)

    def _real(self, checkout: plans.Checkout) -> plans.Checkout:
        """A codeset that holds, in a file, the commit that the test made up."""
        name = f"{checkout.project}-{checkout.codeset}-{checkout.commit}"
        work = self._folder / "work" / name
        bare = self._folder / "git" / f"{name}.git"
        if not bare.exists():
            work.mkdir(parents=True)
            (work / "commit").write_text(checkout.commit)
            for command in ("init --quiet --initial-branch=main", "add .", "commit --quiet -m first"):
                _git(*command.split(), folder=work)
            _git("clone", "--quiet", "--bare", str(work), str(bare), folder=work)
            _git("update-server-info", folder=bare)
        commit = _git("rev-parse", "HEAD", folder=bare)
        return checkout.model_copy(update={"url": f"{self._url}/{name}.git", "ref": "refs/heads/main", "commit": commit})


def _git(*arguments: str, folder: Path) -> str:
    return commands.run(["git", *arguments], cwd=folder, environment={**_GIT, **_WHO}).stdout.strip()


@contextlib.contextmanager
def _codesets(folder: Path) -> Iterator[str]:
    """The address, as pods see it, under which git repositories in `folder`/git are read."""
    root = folder / "git"
    root.mkdir(parents=True)
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://{os.environ.get('FUSEML_TEST_HOST', 'host.local')}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what matters is in the log of the clone."""
