"""Execution of the engine's own scripts: the clone with a real git host over HTTP, the build with a fake buildah."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fuseml.domain import labels, plans
from fuseml.engines.tekton import Settings, render
from tests import commands
from tests.component import canned_api
from tests.component.githost import PASSWORD, Clone, Server, clone, server
from tests.unit import tekton_model, tekton_plans

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

__all__ = ["clone", "server"]

needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")


def execute(view: tekton_model.ContainerView, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script or the command of a container in a folder."""
    base = {"PATH": os.environ["PATH"], "HOME": str(directory.parent), "GIT_CONFIG_SYSTEM": "/dev/null"}
    script = directory.parent / "script"
    if view.script is not None:
        script.write_text(view.script)
    command = ["/bin/sh", str(script)] if view.script is not None else view.arguments
    return commands.run(command, cwd=directory, environment={**base, **view.environment, **environment}, code=None)


def run_clone(checkout: plans.Checkout, folder: Path, search_path: str = "", **secret: str) -> subprocess.CompletedProcess[str]:
    """Run the clone task of a codeset with the account that may read it. Programs come from `search_path`, by default that of the tests."""
    plan = tekton_plans.make(plans.StepPlan(name="a", image=plans.text("x"), checkouts=(checkout,)))
    secrets = {checkout.account: f"{secret['username']}:{secret['password']}"} if secret else {}
    manifests = render.render(plan, secrets, Settings())
    task = manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"][0]
    assert task["name"].startswith(labels.AUXILIARY_PREFIX)
    [container] = task["taskSpec"]["steps"]
    contents = (manifests.secret or {"stringData": {}})["stringData"]
    folder.mkdir(exist_ok=True)
    return execute(tekton_model.run_container(task, container, {}, contents), folder, PATH=search_path or os.environ["PATH"])


def anonymous(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/git/workspace/mnist.git"


def test_a_codeset_is_cloned_at_its_commit_with_credentials_and_identity_files(server: Server, clone: Clone, tmp_path: Path) -> None:
    first = clone.git("rev-parse", "HEAD")
    clone.commit("second", {"train.py": "print(2)\n"})
    clone.push("--quiet", "origin", "main")
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=first)
    process = run_clone(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert process.returncode == 0, process.stderr
    assert PASSWORD not in process.stdout + process.stderr
    assert (tmp_path / "volume/train.py").read_text() == "print(1)\n"
    assert [(tmp_path / "volume/.fuseml" / name).read_text() for name in ("_org", "_project")] == ["workspace", "mnist"]
    assert stat.S_IMODE((tmp_path / "volume/train.py").stat().st_mode) == 0o666


def test_a_retried_clone_starts_with_an_empty_folder(server: Server, clone: Clone, tmp_path: Path) -> None:
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=clone.git("rev-parse", "HEAD"))
    (tmp_path / "volume/.git").mkdir(parents=True)
    (tmp_path / "volume/.git/config").write_text("half a config")
    (tmp_path / "volume/left over").touch()
    process = run_clone(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert process.returncode == 0, process.stderr
    assert not (tmp_path / "volume/left over").exists()


@pytest.mark.parametrize("secret", [{}, {"username": "ada", "password": "wrong"}])
def test_the_clone_fails_without_a_prompt_when_credentials_are_wrong(
    secret: dict[str, str], server: Server, clone: Clone, tmp_path: Path
) -> None:
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=clone.git("rev-parse", "HEAD"))
    process = run_clone(checkout, tmp_path / "volume", **secret)
    assert process.returncode != 0
    assert "fatal: " in process.stderr


def test_the_clone_fetches_the_branch_when_the_host_does_not_serve_commits_by_id(tmp_path: Path) -> None:
    work = Clone.fresh("unused", tmp_path / "work")
    first = work.commit("first", {"train.py": "print(1)\n"})
    work.commit("second", {"train.py": "print(2)\n"})
    # Protocol 0 serves the tips of refs only.
    script = f'#!/bin/sh\nexec {git()} -c protocol.version=0 "$@"\n'
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(script)
    (tmp_path / "bin/git").chmod(0o755)
    checkout = tekton_plans.codeset("mnist", url=f"file://{work.folder}", commit=first)
    plan = tekton_plans.make(plans.StepPlan(name="a", image=plans.text("x"), checkouts=(checkout,)))
    task = render.render(plan, {}, Settings()).pipeline_run["spec"]["pipelineSpec"]["tasks"][0]
    (tmp_path / "volume").mkdir()
    view = tekton_model.run_container(task, task["taskSpec"]["steps"][0], {}, {})
    process = execute(view, tmp_path / "volume", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert process.returncode == 0, process.stderr
    assert "not our ref" in process.stderr or "Server does not allow request" in process.stderr
    assert (tmp_path / "volume/train.py").read_text() == "print(1)\n"


def git() -> str:
    return commands.run(["sh", "-c", "command -v git"]).stdout.strip()


SUBMODULES = {"lib": "../mnist.git", "gone": "../gone.git", "private": "ssh://git@127.0.0.1:1/x.git"}


def test_submodules_are_cloned_and_unreachable_ones_left_empty(server: Server, clone: Clone, tmp_path: Path) -> None:
    library = clone.git("rev-parse", "HEAD")
    server.host.create_repository("workspace", "app")
    modules = "".join(f'[submodule "{name}"]\n\tpath = {name}\n\turl = {url}\n' for name, url in SUBMODULES.items())
    for name in SUBMODULES:
        (clone.folder / name).mkdir()
        clone.git("update-index", "--add", "--cacheinfo", f"160000,{library},{name}")
    commit = clone.commit("submodules", {".gitmodules": modules})
    clone.git("push", "--quiet", server.url("app"), "HEAD:main")
    checkout = tekton_plans.codeset("app", url=anonymous(server).replace("mnist", "app"), commit=commit)

    process = run_clone(checkout, tmp_path / "volume", username="ada", password=PASSWORD)

    assert process.returncode == 0, process.stderr
    assert (tmp_path / "volume/lib/train.py").exists()
    assert list((tmp_path / "volume/gone").iterdir()) == []
    assert "the submodule gone cannot be fetched" in process.stderr
    assert "transport 'ssh' not allowed" in process.stderr


def with_large_files(server: Server, clone: Clone) -> plans.Checkout:
    """A codeset whose file `weights.bin` git-lfs keeps on the git host."""
    clone.git("lfs", "install", "--local")
    clone.git("lfs", "track", "*.bin")
    commit = clone.commit("weights", {"weights.bin": "0.5 0.25\n"})
    clone.git("push", "--quiet", "origin", "main")
    return tekton_plans.codeset("mnist", url=anonymous(server), commit=commit)


@needs_lfs
def test_objects_of_git_lfs_are_fetched_with_the_credentials_of_the_codeset(server: Server, clone: Clone, tmp_path: Path) -> None:
    process = run_clone(with_large_files(server, clone), tmp_path / "volume", username="ada", password=PASSWORD)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "volume/weights.bin").read_text() == "0.5 0.25\n"


@needs_lfs
def test_a_missing_object_of_git_lfs_fails_the_clone_with_the_file_and_the_way_out(server: Server, clone: Clone, tmp_path: Path) -> None:
    checkout = with_large_files(server, clone)
    shutil.rmtree(server.root / "workspace" / "mnist.git" / "lfs")
    process = run_clone(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert process.returncode != 0
    assert "the content of weights.bin (Git LFS) cannot be fetched: push it with 'git lfs push --all http://127" in process.stderr


@needs_lfs
@pytest.mark.parametrize("excluded", ["", "[lfs]\n\tfetchexclude = absent.bin\n"])
def test_the_file_whose_object_is_missing_is_named_and_no_other(server: Server, clone: Clone, tmp_path: Path, excluded: str) -> None:
    text = "version https://git-lfs.github.com/spec/v1 begins a pointer\n"
    clone.commit("a page", {"README.md": text, ".lfsconfig": excluded, "docs/x.gitattributes": "*.bin filter=lfs\n"})
    with_large_files(server, clone)
    commit = clone.commit("more", {name: f"{name}\n" for name in ("absent.bin", "present.bin", "zero.bin")})
    clone.git("push", "--quiet", "origin", "main")
    for name in ("absent.bin", "zero.bin"):
        server.host.lfs_objects("workspace", "mnist").path(hashlib.sha256(f"{name}\n".encode()).hexdigest()).unlink()
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=commit)
    process = run_clone(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert process.returncode != 0
    assert f"the content of {'zero.bin' if excluded else 'absent.bin'} (Git LFS) cannot be fetched: push it" in process.stderr


def test_a_codeset_of_git_lfs_is_refused_with_the_reason_where_the_image_has_no_git_lfs(
    server: Server, clone: Clone, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    write(tmp_path / "bin/git", f'#!/bin/sh\n[ "$1" != lfs ] || exit 1\nexec {git()} "$@"\n')
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    commit = clone.commit("attributes", {".gitattributes": "*.bin filter=lfs -text\n", "weights.bin": pointer})
    clone.git("push", "--quiet", "origin", "main")
    checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=commit)
    search_path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    process = run_clone(checkout, tmp_path / "volume", search_path, username="ada", password=PASSWORD)
    assert process.returncode != 0
    assert "the image of the setting FUSEML_GIT_IMAGE has no git-lfs" in process.stderr
    assert "push it" not in process.stderr


@needs_lfs
@pytest.mark.parametrize("complete", [True, False])
def test_submodules_have_their_objects_of_git_lfs_or_say_so(server: Server, clone: Clone, tmp_path: Path, complete: bool) -> None:
    library = with_large_files(server, clone)
    if not complete:
        shutil.rmtree(server.root / "workspace" / "mnist.git" / "lfs")
    server.host.create_repository("workspace", "app")
    app = Clone.fresh(server.url("app"), tmp_path / "app")
    (app.folder / "lib").mkdir()
    app.git("update-index", "--add", "--cacheinfo", f"160000,{library.commit},lib")
    commit = app.commit("app", {".gitmodules": '[submodule "lib"]\n\tpath = lib\n\turl = ../mnist.git\n'})
    app.git("push", "--quiet", "origin", "main")
    checkout = tekton_plans.codeset("app", url=anonymous(server).replace("mnist", "app"), commit=commit)
    process = run_clone(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert process.returncode == 0, process.stderr
    content = (tmp_path / "volume/lib/weights.bin").read_text()
    assert (content == "0.5 0.25\n", "contents of Git LFS in the submodule lib cannot be fetched" in process.stderr) == (
        complete,
        not complete,
    )


@needs_lfs
def test_another_lfs_server_gets_no_credentials(server: Server, clone: Clone, tmp_path: Path) -> None:
    received: list[dict[str, str]] = []

    def stranger(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
        received.append({name: str(value) for name, value in environ.items() if name.startswith(("HTTP_", "PATH_"))})
        start_response("401 Unauthorized", [("LFS-Authenticate", 'Basic realm="x"'), ("Content-Length", "0")])
        return [b""]

    with canned_api.running(stranger) as url:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
        files = {".lfsconfig": f"[lfs]\n\turl = {url}/lfs\n", ".gitattributes": "*.bin filter=lfs -text\n", "weights.bin": pointer}
        commit = clone.commit("weights", files)
        clone.git("push", "--quiet", "origin", "main")
        checkout = tekton_plans.codeset("mnist", url=anonymous(server), commit=commit)
        process = run_clone(checkout, tmp_path / "volume", username="ada", password=PASSWORD)
    assert process.returncode != 0
    assert "the content of weights.bin (Git LFS) cannot be fetched" in process.stderr
    assert "lfs.url in .lfsconfig names another server, which gets no credentials; remove it there" in process.stderr
    assert received
    assert all("HTTP_AUTHORIZATION" not in request for request in received)


def test_a_branch_name_like_a_variable_of_tekton_is_not_substituted() -> None:
    checkout = tekton_plans.codeset("mnist", ref="refs/heads/$(params.x)-$(HOME)")
    plan = tekton_plans.make(plans.StepPlan(name="a", image=plans.text("x"), checkouts=(checkout,)))
    manifests = render.render(plan, {}, Settings())
    task = manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"][0]
    assert manifests.secret is not None
    view = tekton_model.run_container(task, task["taskSpec"]["steps"][0], {}, manifests.secret["stringData"])
    assert view.environment["GIT_REF"] == "refs/heads/$(params.x)-$(HOME)"


BUILDAH = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$CALLS"
while [ $# -gt 0 ]; do
  if [ "$1" = --digestfile ]; then printf 'sha256:abc' > "$2"; fi
  shift
done
"""


@pytest.mark.parametrize("printed", [True, False])
def test_an_image_is_built_from_its_dockerfile_and_pushed(printed: bool, tmp_path: Path) -> None:
    plan = tekton_plans.PLANS["image-dockerfile-from-step" if printed else "image"]()
    manifests = render.render(plan, tekton_plans.secrets_of(plan), Settings())
    task = next(task for task in manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "builder")
    secret = manifests.secret["stringData"] if manifests.secret else {}
    programs = tmp_path / "bin"
    programs.mkdir()
    write(programs / "buildah", BUILDAH)
    write(programs / "run", '#!/bin/sh\necho "preparing $1 from $BASE with $STORE"\necho .fuseml/Dockerfile\n')
    for folder in ("project", "build", "results", "secrets", "steps/step-fuseml-outputs/results"):
        (tmp_path / folder).mkdir(parents=True)
    for container in task["taskSpec"]["steps"]:
        view = relocated(tekton_model.run_container(task, container, {"tag": {"tag": "v1"}}, secret), tmp_path)
        process = execute(view, tmp_path / "project", PATH=f"{programs}:{os.environ['PATH']}", CALLS=str(tmp_path / "calls"))
        assert process.returncode == 0, process.stderr
        if container["name"] == "prepare":
            assert (
                process.stdout
                == f"preparing --quiet from python:3.12 with key={tekton_plans.CANARY}-AWS_SECRET_ACCESS_KEY\n.fuseml/Dockerfile\n"
            )
        else:
            assert tekton_plans.CANARY not in str(view)
    published = [path.read_text() for path in sorted((tmp_path / "steps/step-fuseml-outputs/results").iterdir())]
    image = "registry.example.com/test:v1" if printed else "registry.example.com/mlflow/test:5f2d7c1e"
    dockerfile = ".fuseml/Dockerfile" if printed else "/project/.fuseml/Dockerfile"
    storage = f"--root {tmp_path}/build/storage --runroot {tmp_path}/build/run --storage-driver vfs"
    assert (tmp_path / "calls").read_text().splitlines() == [
        f"{storage} build --isolation chroot --network host --tls-verify=true --file {dockerfile} --tag {image} .",
        f"{storage} push --tls-verify=true --digestfile {tmp_path}/build/digest {image} docker://{image}",
    ]
    assert published == [image, "sha256:abc"]


def write(path: Path, content: str) -> None:
    path.write_text(content)
    path.chmod(0o755)


def relocated(view: tekton_model.ContainerView, root: Path) -> tekton_model.ContainerView:
    """The container with its volumes in a folder of the test."""

    def text(value: Any) -> Any:
        return value.replace("/fuseml-build", f"{root}/build").replace("/fuseml-secrets", f"{root}/secrets").replace("/tekton/", f"{root}/")

    view.script = text(view.script) if view.script is not None else None
    view.arguments = [text(value) for value in view.arguments]
    return view


@pytest.mark.parametrize("name", tekton_plans.PLANS)
def test_the_pod_of_a_step_asks_for_its_devices_once(name: str) -> None:
    plan = tekton_plans.PLANS[name]()
    gpu = "nvidia.com/gpu"
    asking = plans.Resources(requests={gpu: "2"}, limits={gpu: "2", "memory": "3Gi"})
    asked = plan.model_copy(update={"steps": tuple(step.model_copy(update={"resources": asking}) for step in plan.steps)})
    pipeline = render.render(asked, tekton_plans.secrets_of(plan), Settings()).pipeline_run["spec"]["pipelineSpec"]
    own = [task for task in pipeline["tasks"] if not task["name"].startswith(labels.AUXILIARY_PREFIX)]
    assert len(own) == len(plan.steps)
    for task in own:
        containers = [container["computeResources"] for container in task["taskSpec"]["steps"]]
        for kind in ("requests", "limits"):
            assert sum(int(amounts[kind].get(gpu, 0)) for amounts in containers) == 2, task["name"]
        # The container with the devices keeps the other amounts of the step.
        assert [amounts["limits"]["memory"] for amounts in containers if gpu in amounts["limits"]] == ["3Gi"]


def test_a_build_without_a_dockerfile_fails_when_the_step_fails(tmp_path: Path) -> None:
    plan = tekton_plans.PLANS["image-dockerfile-from-step"]()
    manifests = render.render(plan, tekton_plans.secrets_of(plan), Settings())
    task = next(task for task in manifests.pipeline_run["spec"]["pipelineSpec"]["tasks"] if task["name"] == "builder")
    assert manifests.secret is not None
    (tmp_path / "bin").mkdir()
    write(tmp_path / "bin/run", "#!/bin/sh\necho no conda.yaml >&2\nexit 3\n")
    for folder in ("project", "build"):
        (tmp_path / folder).mkdir(parents=True)
    view = tekton_model.run_container(task, task["taskSpec"]["steps"][0], {"tag": {"tag": "v1"}}, manifests.secret["stringData"])
    process = execute(relocated(view, tmp_path), tmp_path / "project", PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert (process.returncode, process.stderr) == (3, "no conda.yaml\n")
