"""Tools that train, for the contract suite and for tests of the step `trainer`: each with its endpoint, its variables, and jobs that it can run."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fuseml import workloads
from tests.contract import determined_master, kubernetes_training
from tests.contract import ray_jobs as ray_jobs_server
from tests.waiting import PATIENCE, answers, wait_until_ready


@dataclass(frozen=True)
class Tool:
    """A running tool. `image` is one that its jobs need; `server` is the contract server, where it is no real tool."""

    resource: str
    url: str
    variables: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    keeps_cancelled: bool = True
    server: Any = None

    def connect(self) -> workloads.Workload:
        return workloads.connect(self.resource, self.url, self.variables)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a step has of its binding."""
        return {"FUSEML_TRAINING": self.resource, "FUSEML_TRAINING_URL": self.url, **self.variables}


def ray_environment() -> Path:
    """The folder with the programs of an environment that has `ray[default]`. Skips the test without one."""
    folder = os.environ.get("FUSEML_RAY", "")
    if not folder or not Path(folder, "bin", "ray").exists():
        pytest.skip("needs ray: set FUSEML_RAY to a virtual environment with ray[default]")
    return Path(folder, "bin")


@contextlib.contextmanager
def ray_head(folder: Path) -> Iterator[Tool]:
    """A real head with one core and little memory. Its sockets need a short path, so its files are in a folder of /tmp."""
    programs = ray_environment()
    port, gcs, agent, client = (free_port() for _ in range(4))
    with contextlib.ExitStack() as stack:
        short = Path(stack.enter_context(_short_folder()))
        log = stack.enter_context((folder / "ray.log").open("ab"))
        options = ["--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}", "--num-cpus=1", "--object-store-memory=80000000"]
        options += [
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={port}",
            f"--dashboard-agent-listen-port={agent}",
            "--disable-usage-stats",
        ]
        options += [f"--ray-client-server-port={client}", "--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={short}"]
        process = subprocess.Popen(
            [programs / "ray", "start", *options],
            env={"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(short), "RAY_DISABLE_IMPORT_WARNING": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_until_ready(process, lambda: answers(f"http://127.0.0.1:{port}/api/jobs/"), "Ray", (folder / "ray.log").read_text)
            yield Tool("ray-jobs", f"http://127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield name


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def whole_log(tool: workloads.Workload, name: str) -> str:
    """The log of a job, read in as many parts as it comes."""
    text, position = tool.logs(name, {})
    more, position = tool.logs(name, position)
    return text + more


@contextlib.contextmanager
def kubernetes(folder: Path, resource: str, **variables: str) -> Iterator[Tool]:
    """The fake API of Kubernetes."""
    with kubernetes_training.serving(folder) as (url, cluster):
        given = {"KUBERNETES_TOKEN": kubernetes_training.TOKEN, **variables}
        yield Tool(resource, url, given, "trainer:1", keeps_cancelled=False, server=cluster)


@contextlib.contextmanager
def ray_jobs(folder: Path) -> Iterator[Tool]:
    """The contract server of Ray."""
    with ray_jobs_server.serving(folder) as (url, head):
        yield Tool("ray-jobs", url, server=head)


@contextlib.contextmanager
def determined(folder: Path) -> Iterator[Tool]:
    """The contract server of Determined."""
    with determined_master.serving(folder) as (url, master):
        variables = {"DET_USER": "ada", "DET_PASS": determined_master.PASSWORD}
        yield Tool("determined-experiments", url, variables, server=master)


SERVERS: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Tool]]] = {
    "kubernetes-job": lambda folder: kubernetes(folder, "kubernetes-job"),
    "trainjob": lambda folder: kubernetes(folder, "kubeflow-trainjob", TRAINING_RUNTIME="plain"),
    "trainjob-keeping-pods": lambda folder: kubernetes(folder, "kubeflow-trainjob", TRAINING_RUNTIME="namespaced/keeping"),
    "determined": determined,
    "ray": ray_jobs,
    "ray-itself": ray_head,
}
"""Name -> the server of one implementation, for the contract suite."""
