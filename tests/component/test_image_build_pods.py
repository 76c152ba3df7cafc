"""The pod that builds the image of a runnable: its containers as Tekton starts them, with a real registry and the real buildah."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import plans
from fuseml.domain.plans import image_building, planning
from fuseml.engines.tekton import Settings, render
from tests import commands, oci_registries
from tests.component import steps
from tests.unit import tekton_model, tekton_plans

RUNNABLE = "runnable://demo/halve/1.0.0"
COMMIT = "c" * 40


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with oci_registries.server(tmp_path_factory.mktemp("registry")) as url:
        yield url


def plan_of(url: str, dockerfile: str) -> plans.Plan:
    code = planning.CodesetVersion(project="demo", codeset="tools", url="http://git/demo/tools.git", ref="refs/heads/main", commit=COMMIT)
    build = image_building.Build(runnable=RUNNABLE, code=code, dockerfile=dockerfile, binding=tekton_plans.registry_of_images(url))
    step = plans.StepPlan(name="halve", image=plans.text("fuseml.local/build:c"), runnable=RUNNABLE)
    return image_building.insert(tekton_plans.make(step), {RUNNABLE: build}, "workloads")


class Pod:
    """The containers of the task `build-halve`, with the volumes of the pod in a folder of the test."""

    def __init__(self, folder: Path, url: str, dockerfile: str, *, builds: bool = True) -> None:
        plan = plan_of(url, dockerfile)
        settings = Settings(image_builds=builds)
        manifests = render.render(plan, tekton_plans.secrets_of(plan), settings)
        self.task = next(task for task in manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "build-halve")
        self.secret = manifests.secret["stringData"] if manifests.secret else {}
        self.folder, self.views = folder, dict[str, tekton_model.ContainerView]()
        for name in ("project", "build", "results", "secrets", "programs", "home", "steps/step-fuseml-outputs/results"):
            (folder / name).mkdir(parents=True)
        (folder / "programs/run").write_text(f'#!/bin/sh\nexec {sys.executable} -P -m fuseml.steps.image_builder "$@"\n')
        (folder / "programs/run").chmod(0o755)

    def run(self) -> tuple[int, str]:
        """The exit code of the last container that ran, and what all of them have logged."""
        log = ""
        for container in self.task["taskSpec"]["steps"]:
            view = self.views[container["name"]] = tekton_model.run_container(self.task, container, {}, self.secret)
            command = [self._here(view.script)] if view.script is not None else [self._here(part) for part in view.arguments]
            if view.script is not None:
                (self.folder / "script").write_text(command[0])
                command = ["/bin/sh", str(self.folder / "script")]
            variables = {name: self._here(value) for name, value in view.environment.items()}
            environment = {**steps.BARE, **variables, "PATH": f"{self.folder}/programs:{os.environ['PATH']}"}
            ended = commands.run(command, cwd=self.folder / "project", environment=environment, code=None)
            log += ended.stdout + ended.stderr
            if ended.returncode != 0:
                return ended.returncode, log
        return 0, log

    def _here(self, text: str) -> str:
        places = {"/fuseml-build": "build", "/fuseml-secrets": "secrets", "/tekton": "", "/project": "project"}
        for place, folder in places.items():
            text = text.replace(place, str(self.folder / folder).rstrip("/"))
        return text

    def outputs(self) -> list[str]:
        return [path.read_text() for path in sorted((self.folder / "steps/step-fuseml-outputs/results").glob("output-*"))]


def write(pod: Pod, **files: str) -> None:
    for name, text in files.items():
        (pod.folder / "project" / name).write_text(text)


@pytest.mark.parametrize("builds", [True, False])
def test_an_image_without_run_is_built_by_the_first_container(registry: str, tmp_path: Path, *, builds: bool) -> None:
    pod = Pod(tmp_path, registry, "Dockerfile", builds=builds)
    write(pod, Dockerfile=f"FROM scratch\nCOPY run /bin/run\nENV BUILDS={builds}\n", run="#!/bin/sh\n")
    code, log = pod.run()
    assert code == 0, log
    image, address = pod.outputs()
    host = registry.removeprefix("http://")
    assert image.startswith(f"{host}/team/demo/halve@sha256:")
    assert address == f"image://demo/halve/{image.partition('@')[2]}"


def test_an_image_with_run_is_built_by_buildah_without_the_account_of_the_registry(registry: str, tmp_path: Path) -> None:
    if shutil.which("buildah") is None or shutil.which("busybox") is None:
        pytest.skip("needs buildah and busybox")
    below = Pod(tmp_path / "base", registry, "Dockerfile.base")
    shutil.copy(shutil.which("busybox") or "", tmp_path / "base/project/sh")
    write(below, **{"Dockerfile.base": "FROM scratch\nCOPY sh /bin/sh\n"})
    code, log = below.run()
    assert code == 0, log
    pod = Pod(tmp_path, registry, "Dockerfile.run")
    (tmp_path / "project/.git").mkdir()
    (tmp_path / "project/.git/HEAD").write_text("x")
    run = 'COPY . /code/\nRUN echo made > /made; echo "files: $(echo /code/.*)"\n'
    write(pod, **{"Dockerfile.run": f"FROM {below.outputs()[0]}\n{run}"})
    code, log = pod.run()
    assert code == 0, log
    assert "files: /code/.\n" in log.replace(" /code/..", "")
    assert [name for name, view in pod.views.items() if tekton_plans.CANARY in str(view)] == ["run", "push"]
    image, _ = pod.outputs()
    pulled = commands.run(
        ["buildah", *storage(tmp_path), "from", "--tls-verify=false", f"docker://{image}"],
        environment={**os.environ, "HOME": str(tmp_path)},
    )
    [root] = commands.run(["buildah", *storage(tmp_path), "mount", pulled.stdout.strip()]).stdout.splitlines()
    assert (Path(root) / "made").read_text() == "made\n"


def storage(folder: Path) -> list[str]:
    return ["--root", str(folder / "storage"), "--runroot", str(folder / "runroot"), "--storage-driver", "vfs"]


def test_an_installation_without_builds_refuses_run_with_the_way_out(registry: str, tmp_path: Path) -> None:
    pod = Pod(tmp_path, registry, "Refused", builds=False)
    write(pod, Refused="FROM scratch\nRUN make\n")
    code, log = pod.run()
    assert code == 1
    assert "task deploy -- --image-builds yes" in log.splitlines()[-1]
    assert "(RUN in line 2)" in log.splitlines()[-1]
    assert pod.outputs() == []


def test_the_second_run_finds_the_image_of_the_first(registry: str, tmp_path: Path) -> None:
    texts: list[Any] = []
    for number in ("1", "2"):
        pod = Pod(tmp_path / number, registry, "Twice")
        # Were it built again, its base would be missing.
        write(pod, Twice="FROM scratch\nENV A=1\nCOPY Twice /\n" if number == "1" else "FROM nowhere.invalid/none\n")
        code, log = pod.run()
        assert code == 0, log
        texts.append(pod.outputs())
    assert texts[0] == texts[1]
    assert "exists; nothing to build" in log
