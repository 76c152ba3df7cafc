"""A runnable that is built, on a machine with a container runtime: pushed, built by the first run, run as an image, found by the second run.

The runtime is a program `podman` that runs containers and builds by the real buildah, without a daemon or the storage of the machine.
"""

from __future__ import annotations

import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests import commands, oci_registries
from tests.embedded import servers

PODMAN = """#!{python} -P
import os, subprocess, sys
os.environ |= {{"CONTAINERS_STORAGE_CONF": "{folder}/storage.conf", "BUILDAH_ISOLATION": "chroot", "HOME": "{folder}"}}
command, *rest = sys.argv[1:]
if command in ("version", "kill"):
    sys.exit(0)
if command != "run":
    os.execvp("buildah", ["buildah", command, *rest])
taken, program, options = 0, "", []
while rest[0].startswith("-"):
    name = rest.pop(0)
    value = "" if name == "--rm" else rest.pop(0)
    if name == "--entrypoint":
        program = value
    if name == "--env":
        options += ["--env", f"{{value}}={{os.environ[value]}}"]
    if name in ("--volume", "--workdir"):
        options += [name, value]
image, *arguments = rest
made = subprocess.run(["buildah", "from", "--tls-verify=false", f"docker://{{image}}"], stdout=subprocess.PIPE, check=True, text=True)
container = made.stdout.strip().splitlines()[-1]
sys.exit(subprocess.run(["buildah", "run", *options, container, "--", program, *arguments]).returncode)
"""
RUNNABLE = """
name: {name}
version: {version}
build: {{codeset: tools, dockerfile: {dockerfile}}}
inputs: [{{name: rows, type: integer}}]
outputs: [{{name: rows, type: integer}}]
"""
WORKFLOW = """
name: run-NAME
inputs: [{name: rows, default: 10}]
outputs: [{name: rows}]
steps:
  - name: calculate
    runnable: NAME
    inputs: [{name: rows, value: "{{ inputs.rows }}"}]
"""
PROGRAM = '#!/bin/sh\necho $((FUSEML_ROWS / BY)) > "$FUSEML_ENV_RESULTS/rows"\n'
PLAIN = "FROM {base}\nENV BY=2\nCOPY run /usr/bin/\n"
MADE = "FROM {base}\nRUN echo by > /by\nENV BY=5\nCOPY run /usr/bin/\n"


class Machine:
    """A server with a registry of images, and the codeset `tools` of the project `demo`."""

    def __init__(self, server: servers.Server, folder: pathlib.Path, host: str) -> None:
        self.server, self.host = server, host
        server.post("/projects?name=demo")
        made = server.post("/codesets?project=demo&name=tools")
        self.checkout = servers.Checkout(folder / "tools", made["codeset"]["url"], made["username"], made["password"])
        (self.checkout.folder / "run").write_text(PROGRAM)
        (self.checkout.folder / "run").chmod(0o755)
        (self.checkout.folder / "Dockerfile").write_text(PLAIN.format(base=f"{host}/base:1"))
        (self.checkout.folder / "Dockerfile.made").write_text(MADE.format(base=f"{host}/base:1"))
        self.commit = self.checkout.push("first")
        endpoint = {"url": f"http://{host}", "type": "internal"}
        service = {"id": "images", "resource": "oci-registry", "category": "artifact-store", "endpoints": [endpoint]}
        server.post("/extensions", {"id": "registry", "services": [service]})
        for name in ("halve", "divide"):
            server.post("/workflows", raw=WORKFLOW.replace("NAME", name).encode())

    def register(self, name: str, version: str = "1.0.0", dockerfile: str = "Dockerfile") -> dict[str, Any]:
        text = RUNNABLE.format(name=name, version=version, dockerfile=dockerfile)
        return dict(self.server.post("/runnables?project=demo", raw=text.encode()))

    def run(self, name: str, number: int, rows: int) -> dict[str, Any]:
        self.server.post("/runs", {"workflow": f"run-{name}", "project": "demo", "inputs": {"rows": str(rows)}})
        return self.server.finished_run(f"run-{name}-{number}")

    def images(self, name: str) -> list[str]:
        return sorted(item["address"] for item in self.server.get(f"/artifacts?kind=image&name={name}"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    if shutil.which("buildah") is None or shutil.which("busybox") is None:
        pytest.skip("needs buildah and busybox")
    storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/storage/root"\nrunroot = "{folder}/storage/run"\n'
    (folder / "storage.conf").write_text(storage)
    programs = folder / "programs"
    programs.mkdir()
    (programs / "podman").write_text(PODMAN.format(python=sys.executable, folder=folder))
    (programs / "podman").chmod(0o755)
    for name in ("buildah", "git"):
        (programs / name).symlink_to(shutil.which(name) or "")
    probe = commands.run([programs / "podman", "images"], code=None)
    if probe.returncode != 0:
        pytest.skip(f"buildah does not work here: {probe.stderr[-200:]}")
    environment = {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"}
    with oci_registries.server(folder) as url:
        host = url.removeprefix("http://")
        (folder / "base").mkdir()
        for name in ("sh", "echo", "env"):
            shutil.copy(shutil.which("busybox") or "", folder / "base" / name)
        (folder / "base/Dockerfile").write_text("FROM scratch\nCOPY sh echo env /bin/\nENV PATH=/usr/bin:/bin\n")
        commands.run([programs / "podman", "build", "--tag", "base", "."], cwd=folder / "base")
        commands.run([programs / "podman", "push", "--tls-verify=false", "base", f"docker://{host}/base:1"])
        with servers.running(folder / "home", "--mlflow", "none", environment=environment) as server:
            yield Machine(server, folder, host)


def test_the_first_run_builds_the_image_and_the_second_one_has_it(machine: Machine) -> None:
    server = machine.server
    registered = machine.register("halve")
    assert registered["build"] == {"codeset": "tools", "dockerfile": "Dockerfile", "commit": machine.commit}
    assert f"tools {machine.commit[:8]} Dockerfile" in server.fuseml("runnable", "get", "halve", "-p", "demo").stdout
    assert "build-halve" in server.fuseml("run", "plan", "run-halve", "-p", "demo").stdout
    first = machine.run("halve", 1, 10)
    assert (first["state"], first["cause"], first["outputs"]) == ("succeeded", None, {"rows": "5"})
    assert [step["name"] for step in first["steps"]] == ["build-halve", "calculate"]
    [address] = machine.images("halve")
    assert address.startswith("image://demo/halve/sha256:")
    assert f"code://demo/tools/{machine.commit}" in server.fuseml("artifact", "lineage", address).stdout
    # The codeset goes on, the version of the runnable does not.
    (machine.checkout.folder / "run").write_text("#!/bin/sh\nexit 1\n")
    machine.checkout.push("second")
    assert machine.register("halve") == registered
    second = machine.run("halve", 2, 20)
    assert (second["state"], second["outputs"]) == ("succeeded", {"rows": "10"})
    assert [step["name"] for step in second["steps"]] == ["calculate"]
    assert machine.images("halve") == [address]


def test_a_dockerfile_with_run_is_built_by_the_program_of_the_machine(machine: Machine) -> None:
    (machine.checkout.folder / "run").write_text(PROGRAM)
    machine.checkout.push("third")
    machine.register("divide", "1.0.0", "Dockerfile.made")
    run = machine.run("divide", 1, 10)
    assert (run["state"], run["cause"], run["outputs"]) == ("succeeded", None, {"rows": "2"})
    log = machine.server.call("GET", "/runs/run-divide-1/logs/build-divide").body.decode()
    assert "Dockerfile.made is built by a program: RUN in line 2" in log
    machine.register("divide", "1.1.0", "docker/Dockerfile")
    failed = machine.run("divide", 2, 10)
    assert failed["state"] == "failed"
    assert "the Dockerfile of the runnable: cannot read the file 'docker/Dockerfile' of the codeset" in failed["cause"]
    assert len(machine.images("divide")) == 1
