"""The scripts of the tasks that the engine adds, executed: the clone against a real git host over HTTP, the build with a program in buildah's place."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fuseml.domain import labels, plans
from fuseml.engines.tekton import Settings, render
from tests.component.githost import PASSWORD, Clone, Server, clone, server
from tests.unit import tekton_model, tekton_plans

__all__ = ["clone", "server"]


def execute(seen: tekton_model.Seen, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a container's script, or its command line, in a folder."""
    known = {"PATH": os.environ["PATH"], "HOME": str(directory.parent), "GIT_CONFIG_SYSTEM": "/dev/null"}
    script = directory.parent / "script"
    if seen.script is not None:
        script.write_text(seen.script)
    command = ["/bin/sh", str(script)] if seen.script is not None else seen.arguments
    return subprocess.run(
        command, cwd=directory, env={**known, **seen.environment, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def cloning(checkout: plans.Checkout, folder: Path, **secret: str) -> subprocess.CompletedProcess[str]:
    """Execute the clone task for a codeset, with the account that may read it."""
    plan = tekton_plans.make(plans.StepPlan(name="a", image=plans.text("x"), checkouts=(checkout,)))
    secrets = {checkout.account: f"{secret['username']}:{secret['password']}"} if secret else {}
    rendered = render.render(plan, secrets, Settings())
    task = rendered.pipeline_run["spec"]["pipelineSpec"]["tasks"][0]
    assert task["name"].startswith(labels.AUXILIARY_PREFIX)
    [container] = task["taskSpec"]["steps"]
    contents = (rendered.secret or {"stringData": {}})["stringData"]
    folder.mkdir(exist_ok=True)
    return execute(tekton_model.run_container(task, container, {}, contents), folder)


def anonymous(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/git/workspace/mnist.git"


def test_a_codeset_is_cloned_at_its_commit_with_the_credentials_and_says_who_it_is(server: Server, clone: Clone, tmp_path: Path) -> None:
    first = clone.git("rev-parse", "HEAD")
    clone.commit("second", {"train.py": "print(2)\n"})
    clone.push("--quiet", "origin", "main")
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=first)
    done = cloning(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert (tmp_path / "volume/train.py").read_text() == "print(1)\n"
    assert [(tmp_path / "volume/.fuseml" / name).read_text() for name in ("_org", "_project")] == ["workspace", "mnist"]
    assert stat.S_IMODE((tmp_path / "volume/train.py").stat().st_mode) == 0o666


def test_a_clone_that_is_tried_again_begins_anew(server: Server, clone: Clone, tmp_path: Path) -> None:
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=clone.git("rev-parse", "HEAD"))
    (tmp_path / "volume/.git").mkdir(parents=True)
    (tmp_path / "volume/.git/config").write_text("half a config")
    (tmp_path / "volume/left over").touch()
    done = cloning(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "volume/left over").exists()


@pytest.mark.parametrize("secret", [{}, {"username": "ada", "password": "wrong"}])
def test_without_the_right_credentials_the_clone_fails_and_asks_nobody(
    secret: dict[str, str], server: Server, clone: Clone, tmp_path: Path
) -> None:
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=clone.git("rev-parse", "HEAD"))
    done = cloning(checkout, tmp_path / "volume", **secret)
    assert done.returncode != 0
    assert "fatal: " in done.stderr


def test_a_host_that_does_not_hand_out_commits_is_asked_for_the_branch(tmp_path: Path) -> None:
    work = Clone.fresh("unused", tmp_path / "work")
    first = work.commit("first", {"train.py": "print(1)\n"})
    work.commit("second", {"train.py": "print(2)\n"})
    # Protocol 0 hands out nothing but the tips of refs.
    script = f'#!/bin/sh\nexec {git()} -c protocol.version=0 "$@"\n'
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(script)
    (tmp_path / "bin/git").chmod(0o755)
    checkout = tekton_plans.codeset("mnist", url=f"file://{work.folder}", commit=first)
    plan = tekton_plans.make(plans.StepPlan(name="a", image=plans.text("x"), checkouts=(checkout,)))
    task = render.render(plan, {}, Settings()).pipeline_run["spec"]["pipelineSpec"]["tasks"][0]
    (tmp_path / "volume").mkdir()
    seen = tekton_model.run_container(task, task["taskSpec"]["steps"][0], {}, {})
    done = execute(seen, tmp_path / "volume", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    assert "not our ref" in done.stderr or "Server does not allow request" in done.stderr
    assert (tmp_path / "volume/train.py").read_text() == "print(1)\n"


def git() -> str:
    found = subprocess.run(["sh", "-c", "command -v git"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_a_branch_called_like_a_variable_of_tekton_is_still_that_branch() -> None:
    checkout = tekton_plans.codeset("mnist", ref="refs/heads/$(params.x)-$(HOME)")
    plan = tekton_plans.make(plans.StepPlan(name="a", image=plans.text("x"), checkouts=(checkout,)))
    rendered = render.render(plan, {}, Settings())
    task = rendered.pipeline_run["spec"]["pipelineSpec"]["tasks"][0]
    assert rendered.secret is not None
    seen = tekton_model.run_container(task, task["taskSpec"]["steps"][0], {}, rendered.secret["stringData"])
    assert seen.environment["GIT_REF"] == "refs/heads/$(params.x)-$(HOME)"


BUILDAH = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
while [ $# -gt 0 ]; do
  if [ "$1" = --digestfile ]; then printf 'sha256:abc' > "$2"; fi
  shift
done
"""


@pytest.mark.parametrize("said", [True, False])
def test_an_image_is_built_from_the_dockerfile_and_pushed_and_named(said: bool, tmp_path: Path) -> None:
    plan = tekton_plans.PLANS["image-dockerfile-from-step" if said else "image"]()
    rendered = render.render(plan, tekton_plans.secrets_of(plan), Settings())
    task = next(task for task in rendered.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "builder")
    secret = rendered.secret["stringData"] if rendered.secret else {}
    programs = tmp_path / "bin"
    programs.mkdir()
    write(programs / "buildah", BUILDAH)
    write(programs / "run", '#!/bin/sh\necho "preparing $1 from $BASE with $STORE"\necho .fuseml/Dockerfile\n')
    for folder in ("project", "build", "results"):
        (tmp_path / folder).mkdir()
    for container in task["taskSpec"]["steps"]:
        seen = placed(tekton_model.run_container(task, container, {"tag": {"tag": "v1"}}, secret), tmp_path)
        done = execute(seen, tmp_path / "project", PATH=f"{programs}:{os.environ['PATH']}", CALLS=str(tmp_path / "calls"))
        assert done.returncode == 0, done.stderr
        if container["name"] == "prepare":
            assert (
                done.stdout
                == f"preparing --quiet from python:3.12 with key={tekton_plans.CANARY}-AWS_SECRET_ACCESS_KEY\n.fuseml/Dockerfile\n"
            )
        else:
            assert tekton_plans.CANARY not in str(seen)
    image = "registry.example.com/test:v1" if said else "registry.example.com/mlflow/test:5f2d7c1e"
    dockerfile = ".fuseml/Dockerfile" if said else "/project/.fuseml/Dockerfile"
    storage = f"--root {tmp_path}/build/storage --runroot {tmp_path}/build/run --storage-driver vfs"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{storage} build --isolation chroot --network host --tls-verify=true --file {dockerfile} --tag {image} .",
        f"{storage} push --tls-verify=true --digestfile {tmp_path}/build/digest {image} docker://{image}",
    ]
    assert (tmp_path / "results/environment").read_text() == image
    assert (tmp_path / "results/environment-digest").read_text() == "sha256:abc"


def write(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


def placed(seen: tekton_model.Seen, root: Path) -> tekton_model.Seen:
    """The container's volumes in a folder of the test."""

    def text(value: Any) -> Any:
        return value.replace("/fuseml-build", f"{root}/build").replace("/tekton/results", f"{root}/results")

    seen.script = text(seen.script) if seen.script is not None else None
    seen.arguments = [text(value) for value in seen.arguments]
    return seen


def test_a_build_without_a_dockerfile_fails_when_the_step_fails(tmp_path: Path) -> None:
    plan = tekton_plans.PLANS["image-dockerfile-from-step"]()
    rendered = render.render(plan, tekton_plans.secrets_of(plan), Settings())
    task = next(task for task in rendered.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "builder")
    assert rendered.secret is not None
    (tmp_path / "bin").mkdir()
    write(tmp_path / "bin/run", "#!/bin/sh\necho no conda.yaml >&2\nexit 3\n")
    for folder in ("project", "build"):
        (tmp_path / folder).mkdir()
    seen = tekton_model.run_container(task, task["taskSpec"]["steps"][0], {"tag": {"tag": "v1"}}, rendered.secret["stringData"])
    done = execute(placed(seen, tmp_path), tmp_path / "project", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (3, "no conda.yaml\n")
