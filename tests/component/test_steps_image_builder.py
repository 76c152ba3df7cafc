"""The step that builds the image of a runnable, against a real registry, and in comparison with buildah."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests import commands, oci_registries
from tests.component import oci_registry, steps
from tests.waiting import PATIENCE, wait_until

BASE = """
FROM scratch
COPY tree /
ENV PATH=/usr/bin:/bin LANG=C
LABEL of=base
CMD ["sh"]
"""
POOL = urllib3.PoolManager(retries=False)


class Registry:
    """A real registry, and the steps that build for it in folders of `folder`."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.host = url, folder, url.removeprefix("http://")

    def build(self, name: str, dockerfile: str, files: Mapping[str, str] | None = None, **variables: str) -> steps.CompletedStep:
        """Build the image `demo/NAME`, of these files if they are given, else of those that are there."""
        return steps.run("image_builder", self.folder / name, **{**self._variables(name, dockerfile, files), **variables})

    def start(self, name: str, dockerfile: str, files: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """The process of such a build."""
        given, code = self._variables(name, dockerfile, files), self.folder / name
        return subprocess.Popen(
            steps.command("image_builder"),
            cwd=code,
            env=steps.environment(code, given),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _variables(self, name: str, dockerfile: str, files: Mapping[str, str] | None) -> dict[str, str]:
        """Write the files. Returns the variables of the step."""
        code = self.folder / name
        for path, text in ({**files, "Dockerfile": dockerfile} if files is not None else {"Dockerfile": dockerfile}).items():
            (code / path).parent.mkdir(parents=True, exist_ok=True)
            (code / path).write_text(text)
        return {
            "FUSEML_DOCKERFILE": "Dockerfile",
            "FUSEML_IMAGE": f"{self.host}/demo/{name}",
            "FUSEML_TAG": "build-1",
            "FUSEML_REGISTRY_URL": self.url,
            "FUSEML_ARTIFACT": f"image://demo/{name}",
        }

    def json(self, repository: str, path: str) -> Any:
        accept = "application/vnd.oci.image.manifest.v1+json"
        answer = POOL.request("GET", f"{self.url}/v2/{repository}/{path}", headers={"Accept": accept})
        assert answer.status == 200, answer.data
        return json.loads(answer.data)

    def tags(self, repository: str) -> list[str]:
        answer = POOL.request("GET", f"{self.url}/v2/{repository}/tags/list")
        return json.loads(answer.data)["tags"] or [] if answer.status == 200 else []

    def config(self, image: str) -> dict[str, Any]:
        """The configuration of `HOST/REPOSITORY@DIGEST`."""
        repository, _, digest = image.removeprefix(f"{self.host}/").partition("@")
        manifest = self.json(repository, f"manifests/{digest}")
        return dict(self.json(repository, f"blobs/{manifest['config']['digest']}"))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("registry")
    with oci_registries.server(folder) as url:
        found = Registry(url, folder / "code")
        (folder / "code/base/tree/usr/bin").mkdir(parents=True)
        (folder / "code/base/tree/bin").symlink_to("usr/bin")
        (folder / "code/base/tree/opt").mkdir()
        (folder / "code/base/tree/opt/known").write_text("of the base")
        busybox = shutil.which("busybox")
        if busybox:
            shutil.copy(busybox, folder / "code/base/tree/usr/bin/sh")
        else:
            (folder / "code/base/tree/usr/bin/sh").write_text("")
        ended = found.build("base", BASE, {})
        assert ended.code == 0, ended.err
        yield found


def test_an_image_is_built_once_and_has_its_address(registry: Registry) -> None:
    dockerfile = f'FROM {registry.host}/demo/base:build-1\nCOPY main.py /app/\nWORKDIR /app\nENTRYPOINT ["python", "main.py"]\n'
    first = registry.build("once", dockerfile, {"main.py": "print(1)"})
    assert first.code == 0, first.err
    image, address = first.outputs["image"], first.outputs["artifact"]
    digest = image.partition("@")[2]
    assert image.startswith(f"{registry.host}/demo/once@sha256:")
    assert address == f"image://demo/once/{digest}"
    config = registry.config(image)
    assert config["config"]["Entrypoint"] == ["python", "main.py"]
    assert config["config"]["Labels"] == {
        "of": "base",
        "org.opencontainers.image.base.name": f"{registry.host}/demo/base:build-1",
        "org.opencontainers.image.base.digest": json_digest(registry, "demo/base"),
        "org.opencontainers.image.revision": steps.COMMIT,
    }
    assert len(config["rootfs"]["diff_ids"]) == len([item for item in config["history"] if not item.get("empty_layer")]) == 2
    # Neither the files nor the base are read again.
    second = registry.build("once", "FROM nowhere.invalid/none\n")
    assert second.code == 0, second.err
    assert second.outputs == first.outputs
    assert "exists; nothing to build" in second.out
    # Equal content is an equal image.
    third = registry.build("once", dockerfile, FUSEML_TAG="build-2")
    assert third.outputs == first.outputs


def json_digest(registry: Registry, repository: str) -> str:
    head = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    return str(POOL.request("HEAD", f"{registry.url}/v2/{repository}/manifests/build-1", headers=head).headers["Docker-Content-Digest"])


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FROM {host}/demo/base:build-1\nCOPY ../x /\n", "COPY in line 2: '../x' is outside the codeset; use a path of the codeset"),
        ("FROM {host}/demo/base:build-1\nCOPY gone /\n", "COPY in line 2: the codeset has no file 'gone'"),
        ("FROM {host}/demo/none:1\n", "does not serve the image {host}/demo/none:1: 404"),
        ("FROM {host}/demo/base:build-1\nCOPPY a b\n", "Dockerfile, line 2: 'COPPY' is no instruction of a Dockerfile"),
        ("FROM {host}/demo/base:build-1\nRUN make\n", "Dockerfile needs a program that builds images, and there is none"),
        ("FROM UPPER/Case\n", "the base of the Dockerfile is 'UPPER/Case', which is no image name"),
    ],
)
def test_a_build_that_cannot_be_is_refused_and_leaves_no_image(registry: Registry, dockerfile: str, message: str) -> None:
    ended = registry.build("refused", dockerfile.format(host=registry.host), {"a": ""})
    assert ended.code == 1
    [line] = ended.err.splitlines()
    assert message.format(host=registry.host) in line
    assert ended.outputs == {}
    assert registry.tags("demo/refused") == []


@pytest.mark.parametrize("path", ["docker/Dockerfile", "../Dockerfile", "out"])
def test_a_dockerfile_that_the_codeset_lacks_is_refused(registry: Registry, path: str) -> None:
    code = registry.folder / "lacking"
    code.mkdir(exist_ok=True)
    if not (code / "out").is_symlink():
        (code / "out").symlink_to("/etc/passwd")
    ended = registry.build("lacking", "FROM scratch\n", FUSEML_DOCKERFILE=path)
    assert ended.code == 1
    assert re.search(
        "the Dockerfile of the runnable: ('out'|'../Dockerfile') is outside|cannot read the file 'docker/Dockerfile'", ended.err
    )


@pytest.mark.parametrize(
    ("target", "place"), [("/opt", "/opt/run"), ("/bin", "/usr/bin/run"), ("/opt/new", "/opt/new"), ("/bin/run", "/bin/run")]
)
def test_a_file_goes_into_a_folder_that_the_base_has(registry: Registry, target: str, place: str, tmp_path: Path) -> None:
    name = f"into-{target.strip('/').replace('/', '-')}"
    ended = registry.build(name, f"FROM {registry.host}/demo/base:build-1\nCOPY run {target}\n", {"run": "x"})
    assert ended.code == 0, ended.err
    manifest = registry.json(f"demo/{name}", f"manifests/{ended.outputs['image'].partition('@')[2]}")
    top = POOL.request("GET", f"{registry.url}/v2/demo/{name}/blobs/{manifest['layers'][-1]['digest']}").data
    (tmp_path / "layer").write_bytes(top)
    with tarfile.open(tmp_path / "layer") as archive:
        assert [f"/{name}" for name in archive.getnames()] == [place.replace("/usr/bin", "/bin")]


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_the_account_of_the_registry_is_used_and_kept_out_of_the_log(tmp_path: Path, auth: str) -> None:
    with oci_registry.running(auth=auth) as closed:
        built = Registry(f"http://{closed.host}", tmp_path)
        account = {"REGISTRY_USERNAME": oci_registry.USER, "REGISTRY_PASSWORD": oci_registry.PASSWORD}
        ended = built.build("closed", "FROM scratch\nCOPY a /\n", {"a": "1"}, **account)
        assert ended.code == 0, ended.err
        assert oci_registry.PASSWORD not in ended.out + ended.err
        refused = built.build(
            "closed", "FROM scratch\nCOPY a /\n", REGISTRY_USERNAME="eve", REGISTRY_PASSWORD="canary-wrong", FUSEML_TAG="2"
        )
        assert refused.code == 1
        assert "canary-wrong" not in refused.out + refused.err


# In comparison with buildah

EVERYTHING = """# syntax=docker/dockerfile:1
ARG FROM_TAG=build-1
FROM {host}/demo/base:${{FROM_TAG}}
ARG WHO=ada
ENV A=1 B="two words" PATH=/opt/bin:$PATH
ENV C=${{NONE:-$A}}
LABEL who=$WHO what='a "b"'
WORKDIR /srv
COPY --chmod=755 . code
COPY run /opt
COPY run /bin/started
COPY --chown=7:8 data/*.csv ./tables/
WORKDIR app
COPY run .
ADD data/one.csv /srv/added
USER 1000
EXPOSE 8080 53/udp
VOLUME /data
STOPSIGNAL SIGINT
ENTRYPOINT ["/opt/run"]
CMD ["--fast", "$A"]
"""
FILES = {
    "run": "#!/bin/sh\n",
    "data/one.csv": "1",
    "data/two.csv": "2",
    "data/notes.md": "no",
    "secret/key": "hidden",
    "secret/public": "shown",
    ".dockerignore": "secret/*\n!secret/public\n*.md\n**/*.md\n",
}


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of buildah without a daemon or the storage of this machine. Skips the test without the program."""
    if shutil.which("buildah") is None:
        pytest.skip("needs buildah")
    storage = tmp_path / "storage"
    (tmp_path / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\ngraphroot = "{storage}/root"\nrunroot = "{storage}/run"\n', encoding="utf-8"
    )
    (tmp_path / "registries.conf").write_text('[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n', encoding="utf-8")
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}', encoding="utf-8")
    variables = {"CONTAINERS_STORAGE_CONF": str(tmp_path / "storage.conf"), "BUILDAH_ISOLATION": "chroot", "HOME": str(tmp_path)}
    probe = commands.run(["buildah", "images"], environment={**os.environ, **variables}, code=None)
    if probe.returncode != 0:
        pytest.skip(f"buildah does not work here: {probe.stderr[-200:]}")
    yield variables


def tree(variables: Mapping[str, str], image: str) -> dict[str, tuple[Any, ...]]:
    """Path -> mode, owner and content, as a container of the image sees it."""
    environment = {**os.environ, **variables}
    container = commands.run(["buildah", "from", "--tls-verify=false", image], environment=environment).stdout.strip()
    root = Path(commands.run(["buildah", "mount", container], environment=environment).stdout.strip())
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status, name = path.lstat(), str(path.relative_to(root))
        if path.is_symlink():
            found[name] = (os.readlink(path),)
        elif path.is_file():
            found[name] = (oct(status.st_mode & 0o777), status.st_uid, status.st_gid, path.read_bytes())
    return found


def test_the_image_is_the_one_that_buildah_builds(registry: Registry, buildah: Mapping[str, str]) -> None:
    ended = registry.build("same", EVERYTHING.format(host=registry.host), FILES)
    assert ended.code == 0, ended.err
    environment = {**os.environ, **buildah}
    build = ["buildah", "build", "--tls-verify=false", "--format", "oci", "--tag", "localhost/other", "."]
    commands.run(build, cwd=registry.folder / "same", environment=environment)
    ours, theirs = tree(buildah, f"docker://{ended.outputs['image']}"), tree(buildah, "localhost/other")
    assert ours == theirs
    inspected = commands.run(["buildah", "inspect", "--type", "image", "localhost/other"], environment=environment).stdout
    other, own = json.loads(inspected)["OCIv1"]["config"], registry.config(ended.outputs["image"])["config"]
    for document in (own, other):
        document["Labels"] = {key: value for key, value in document["Labels"].items() if key in ("who", "what", "of")}
        document["Env"].sort()
    assert own == other


def test_a_program_of_this_machine_builds_what_needs_one(registry: Registry, buildah: Mapping[str, str]) -> None:
    if shutil.which("busybox") is None:
        pytest.skip("needs busybox for RUN")
    dockerfile = f'FROM {registry.host}/demo/base:build-1\nWORKDIR /made\nCOPY run .\nRUN echo "$A:$REGISTRY_PASSWORD" > made; echo .*\n'
    variables = {**buildah, "REGISTRY_PASSWORD": "canary", "FUSEML_BUILD_HOME": buildah["HOME"]}
    ended = registry.build("run", dockerfile, {**FILES, ".git/HEAD": "x"}, FUSEML_BUILD_PROGRAM=shutil.which("buildah") or "", **variables)
    assert ended.code == 0, ended.err
    assert "Dockerfile is built by a program: RUN in line 4" in ended.out
    found = tree(buildah, f"docker://{ended.outputs['image']}")
    assert found["made/made"][3] == b":\n"
    assert ended.outputs["artifact"] == f"image://demo/run/{ended.outputs['image'].partition('@')[2]}"
    assert commands.run(["buildah", "images", "-q"], environment={**os.environ, **buildah}).stdout.count("\n") <= 2


def test_a_failed_program_leaves_no_image(registry: Registry, buildah: Mapping[str, str]) -> None:
    dockerfile = f"FROM {registry.host}/demo/base:build-1\nRUN exit 3\n"
    ended = registry.build("failed", dockerfile, {}, FUSEML_BUILD_PROGRAM=shutil.which("buildah") or "", **buildah)
    assert ended.code == 1
    assert "buildah build exited with code" in ended.err.splitlines()[-1]
    assert registry.tags("demo/failed") == []


@pytest.mark.parametrize("requests", [2, 5, 8])
def test_a_killed_build_leaves_no_image_or_the_whole_one(tmp_path: Path, requests: int) -> None:
    with oci_registry.running() as received:
        built = Registry(f"http://{received.host}", tmp_path)
        process = built.start("killed", "FROM scratch\nCOPY a /\n", {"a": "1" * 100_000})
        wait_until(lambda: len(received.requests) >= requests or process.poll() is not None, "the build to reach the registry")
        process.kill()
        process.wait(PATIENCE)
        for (_, reference), (_, data) in list(received.manifests.items()):
            assert reference in ("build-1", oci_registry.digest_of(data))
            manifest = json.loads(data)
            held = {digest for _, digest in received.blobs}
            assert {manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])} <= held
        ended = built.build("killed", "FROM scratch\nCOPY a /\n")
        assert ended.code == 0, ended.err
        assert ("demo/killed", "build-1") in received.manifests
