"""The Tekton engine under test, on the cluster of KUBECONFIG.

The suite polls the engine, as the sweep does, so it needs no sink for Tekton's events. Pods fetch their codesets from this process at
FUSEML_TEST_HOST (`host.local`). FUSEML_TEST_IMAGE_SHELL is an image with a POSIX shell, FUSEML_TEST_IMAGE_GIT an image with git and a
shell, FUSEML_TEST_IMAGE_FUNCTIONS the image of the functions, which checks outputs.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import events, plans
from fuseml.domain.labels import RUN_LABEL
from fuseml.engines import LogChunk
from fuseml.engines.tekton import Cluster, Settings, TektonEngine
from tests import commands
from tests.contract.engines import Inbox, Signals, UnderTest
from tests.images import image
from tests.waiting import wait_until

_PAUSE = 0.5
_GIT = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
_IDENTITY = {
    f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in (("NAME", "Ada"), ("EMAIL", "ada@example.com"))
}


@contextlib.contextmanager
def own_namespace(purpose: str) -> Iterator[tuple[str, Any]]:
    """A new namespace, removed at the end, and the core API of the cluster. Skips the test without a cluster.

    It enforces Pod Security `restricted` where Tekton confines its own containers, as after `task deploy`.
    """
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs KUBECONFIG of a cluster with Knative and Tekton")
    from kubernetes import client, config

    config.load_kube_config()
    core = client.CoreV1Api()
    name = f"fuseml-{purpose}-{os.urandom(4).hex()}"
    flags = core.read_namespaced_config_map("feature-flags", "tekton-pipelines").data or {}
    standard = "restricted" if flags.get("set-security-context") == "true" else "privileged"
    core.create_namespace({"metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": standard}}})
    try:
        yield name, core
    finally:
        core.delete_namespace(name)
        core.api_client.close()


@contextlib.contextmanager
def tekton_engine(folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[UnderTest]:
    """A Tekton engine in a namespace of its own, removed at the end. `variables` are those of an installation. Skips the test without a
    cluster."""
    with own_namespace("contract") as (namespace, core), contextlib.closing(Cluster(namespace)) as cluster:
        core.create_namespaced_service_account(namespace, {"metadata": {"name": "contract"}})
        shell = image("SHELL", "dev.local/busybox:1")
        git_image = image("GIT", Settings().git_image)
        check_image = image("FUNCTIONS")
        with _codesets(folder) as url:
            inbox = Inbox()
            settings = Settings(service_account="contract", git_image=git_image, check_image=check_image, variables=variables or {})
            engine = PollingEngine(TektonEngine(cluster, settings), inbox, folder, url, namespace)
            with engine.polling():
                flags = core.read_namespaced_config_map("feature-flags", "tekton-pipelines").data or {}
                keeps_logs = flags.get("keep-pod-on-cancel") == "true"
                yield UnderTest(
                    engine,
                    inbox,
                    shell,
                    engine.lose,
                    engine.published,
                    Signals(folder / "git", f"wget -q -O /dev/null {url}/{{}} 2> /dev/null"),
                    delay=5.0,
                    keeps_stopped_logs=keeps_logs,
                )


def delete_pods(under_test: UnderTest) -> None:
    """Delete the pods of all runs, as the loss of a node does, and wait until they are gone."""
    from kubernetes import client

    core, namespace = client.CoreV1Api(), under_test.engine.namespace  # type: ignore[attr-defined]
    core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)
    wait_until(lambda: not core.list_namespaced_pod(namespace).items, "the pods to be gone", interval=_PAUSE)
    core.api_client.close()


def leftovers(under_test: UnderTest) -> list[str]:
    """The remaining pods, volume claims and Secrets of runs."""
    from kubernetes import client

    core, namespace = client.CoreV1Api(), under_test.engine.namespace  # type: ignore[attr-defined]
    lists = (core.list_namespaced_pod, core.list_namespaced_persistent_volume_claim, core.list_namespaced_secret)
    names = [item.metadata.name for read in lists for item in read(namespace).items]
    core.api_client.close()
    return names


class PollingEngine:
    """An engine whose events are polled into an inbox, and whose plans get codesets that exist."""

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
        steps = tuple(step.model_copy(update={"checkouts": tuple(map(self._with_codeset, step.checkouts))}) for step in plan.steps)
        self._engine.submit(plan.model_copy(update={"steps": steps}), secrets)
        self._runs.setdefault(plan.id, set())

    def cancel(self, run_id: str, reason: str) -> None:
        """See `Engine`."""
        self._engine.cancel(run_id, reason)

    def observe(self, run_id: str) -> Sequence[events.Event]:
        """See `Engine`."""
        return self._engine.observe(run_id)

    def loss(self, run_id: str) -> str | None:
        """See `Engine`."""
        return self._engine.loss(run_id)

    def logs(self, run_id: str, step: str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """See `Engine`."""
        return self._engine.logs(run_id, step, offset, limit)

    def drop_log(self, run_id: str, step: str) -> None:
        self._engine.drop_log(run_id, step)

    def forget(self, run_id: str) -> None:
        """See `Engine`; the run is polled no longer."""
        self._engine.forget(run_id)
        self._runs.pop(run_id, None)

    def lose(self, run_id: str) -> None:
        """Delete the run's PipelineRun, as `kubectl delete pipelinerun` does, and wait until it is gone."""
        from kubernetes import client

        custom, kind = client.CustomObjectsApi(), ("tekton.dev", "v1", self.namespace, "pipelineruns")
        custom.delete_collection_namespaced_custom_object(*kind, label_selector=f"{RUN_LABEL}={run_id}")
        wait_until(lambda: not custom.list_namespaced_custom_object(*kind, label_selector=f"{RUN_LABEL}={run_id}")["items"], "its end")
        custom.api_client.close()

    def published(self) -> str:
        """The PipelineRuns, TaskRuns, pods and events of the namespace."""
        kinds = "pipelineruns,taskruns,pods,events"
        return commands.run(["kubectl", "get", kinds, f"--namespace={self.namespace}", "--output=json"]).stdout

    @contextlib.contextmanager
    def polling(self) -> Iterator[None]:
        """Poll the submitted runs for new events."""
        thread = threading.Thread(target=self._poll)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join()

    def _poll(self) -> None:
        while not self._stopping.wait(_PAUSE):
            for run_id, collected in list(self._runs.items()):
                for event in self._engine.observe(run_id):
                    if (event.source, event.id) not in collected:
                        collected.add((event.source, event.id))
                        self._inbox.put(event)

    def _with_codeset(self, checkout: plans.Checkout) -> plans.Checkout:
        """The checkout of a real codeset with a file that contains the test's commit id."""
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
    return commands.run(["git", *arguments], cwd=folder, environment={**_GIT, **_IDENTITY}).stdout.strip()


@contextlib.contextmanager
def _codesets(folder: Path) -> Iterator[str]:
    """The address of the git repositories in `folder`/git, as seen by pods."""
    root = folder / "git"
    root.mkdir(parents=True)
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            # An address, because programs without shared libraries, such as that of a busybox, may resolve no names.
            address = socket.gethostbyname(os.environ.get("FUSEML_TEST_HOST", "host.local"))
            yield f"http://{address}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the log of the clone has the errors."""
