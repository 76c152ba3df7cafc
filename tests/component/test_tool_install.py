"""`fuseml extension install`, `uninstall` and `discover --cluster` with the real kubectl."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml.domain import errors
from fuseml.domain.installation import description
from fuseml.installing import folders, programs
from tests.component import installing_tools
from tests.component.installing_tools import BASE, SERVICE, STORE, Place, config_map
from tests.component.kubernetes_server import Object

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with installing_tools.furnished(tmp_path) as place:
        yield place


def test_a_tool_is_installed_after_its_requirements_registered_and_removed(place: Place) -> None:
    planned = place.fuseml("install", "./store", "--dry-run").stdout
    assert max(len(line) for line in planned.splitlines()[:7]) <= 80
    assert "get, list shops of example.com" in planned
    assert place.cluster.names("namespaces") == ["fuseml-workloads"], "a plan changes nothing"
    assert "nothing was changed" in place.fuseml("install", "./store", code=1).stderr
    assert place.cluster.names("namespaces") == ["fuseml-workloads"]

    installed = place.fuseml("install", "./store", "--yes")
    assert installed.stdout.endswith("store is installed.\n")
    progress = installed.stderr
    assert progress.index("base 1/1 manifest base.yaml: done") < progress.index("store 1/2 kustomization objects: done")
    assert place.cluster.names("configmaps", "store") == ["settings"]
    password = base64.b64decode(place.cluster.get("secrets", "root", "store")["data"]["password"]).decode()
    assert password not in installed.stdout + progress
    record = place.record("store")
    (service,) = record["services"]
    assert (record["product"], record["version"], record["zone"], service["auth_required"]) == ("shop", "1.20", "test", True)
    assert [(each["url"], each["type"]) for each in service["endpoints"]] == [
        ("http://store.store:9000", "internal"),
        ("http://192.0.2.7:9000", "external"),
    ]
    assert service["endpoints"][1]["configuration"] == {"AWS_ENDPOINT_URL_S3": "http://192.0.2.7:9000"}
    assert service["credentials"][0]["configuration"] == {"AWS_ACCESS_KEY_ID": "<hidden>", "AWS_SECRET_ACCESS_KEY": "<hidden>"}
    assert place.cluster.get("roles", "tool-store", "fuseml-workloads")["rules"][0]["verbs"] == ["get", "list"]

    # Again: no step is executed, and the record is brought up to date.
    place.cluster.requests.clear()
    again = place.fuseml("install", "./store", "--yes")
    assert "already installed" in again.stdout
    assert "store record is updated" in again.stderr
    assert {method for method, _ in place.cluster.requests} == {"GET"}
    assert base64.b64decode(place.cluster.get("secrets", "root", "store")["data"]["password"]).decode() == password

    # A changed file is a step to do.
    (place.folder / "store/settings.yaml").write_text(json.dumps(config_map("settings", "store", a="c")))
    assert "store 1/2 kustomization objects: done before" in place.fuseml("install", "./store", "--yes").stderr
    assert place.cluster.get("configmaps", "settings", "store")["data"] == {"a": "c"}

    refused = place.fuseml("uninstall", "base", "--yes", code=1).stderr
    assert "store requires base; remove it first" in refused
    removed = place.fuseml("uninstall", "./store", "--yes", "--with-requirements")
    order = [line for line in removed.stderr.splitlines() if line.endswith("...")]
    assert order == [
        "store manifest settings.yaml ...", "store kustomization objects ...", "store namespace store ...", "base manifest base.yaml ...",
        "base namespace base ...",
    ]  # fmt: skip
    assert (place.record("store"), place.record("base")) == (None, None)
    assert place.cluster.names("namespaces") == ["fuseml-tools", "fuseml-workloads"]
    assert place.cluster.names("configmaps") == place.cluster.names("roles") == place.cluster.names("secrets") == []
    assert "store is not installed by FuseML" in place.fuseml("uninstall", "./store", "--yes", code=1).stderr


def test_a_killed_installation_continues_to_the_same_end(place: Place) -> None:
    place.fuseml("install", "./store", "--yes")
    undisturbed = place.state()
    place.fuseml("uninstall", "./store", "--yes", "--with-requirements")

    place.ready = False
    with place.start("install", "./store", "--yes") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waits: store: ImagePullBackOff no such image" in line:
                break
        process.send_signal(signal.SIGKILL)
    assert place.cluster.names("configmaps", "store") == []
    assert place.cluster.get("secrets", "store", "fuseml-tools")["data"]["state"] == base64.b64encode(b"installing").decode()
    place.ready = True
    place.cluster.put(place.cluster.get("pods", "store", "store"))
    output = place.fuseml("install", "./store", "--yes")
    assert "base" in output.stdout
    assert "already installed" in output.stdout
    assert place.state() == undisturbed

    # A removal, too: half of the objects are gone.
    for kind in ("pods", "services", "roles"):
        for key in [key for key in place.cluster.objects if key[0] == kind]:
            del place.cluster.objects[key]
    place.fuseml("uninstall", "./store", "--yes")
    assert place.cluster.names("secrets", "fuseml-tools") == ["base"]


def test_without_a_cluster_one_line_names_the_way_out(tmp_path: Path) -> None:
    found = programs.Programs({"PATH": os.environ["PATH"], "KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)})
    with pytest.raises(errors.PermanentError) as caught:
        found.kubectl("get", "configmaps")
    assert caught.value.message.startswith("no cluster answers: ")
    assert caught.value.message.endswith("; set KUBECONFIG to the file of your cluster")
    assert "\n" not in caught.value.message and "memcache" not in caught.value.message


def test_a_step_that_fails_names_the_way_on(place: Place) -> None:
    (place.folder / "store/settings.yaml").write_text("kind: Nonsense\napiVersion: example.com/v1\nmetadata: {name: a}\n")
    failed = place.fuseml("install", "./store", "--yes", code=1)
    assert "`kubectl apply --server-side ...` failed" in failed.stderr
    assert place.record("store") is None
    # The tool that the cluster lacks a part of is not registered.
    (place.folder / "store/settings.yaml").write_text(json.dumps(config_map("settings", "store", a="b")))
    (place.folder / "store/description.yaml").write_text(STORE.replace("store.store:9000", "store.store:9001"))
    failed = place.fuseml("install", "./store", "--yes", code=1)
    assert "the service store in the namespace store has no port 9001" in failed.stderr
    (place.folder / "store/description.yaml").write_text(STORE)
    place.fuseml("install", "./store", "--yes")
    assert place.record("store")


def test_what_others_have_made_stays_as_it_is(place: Place) -> None:
    for name in ("store", "base"):
        place.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    place.cluster.put(config_map("settings", "store", a="mine"))
    place.cluster.put(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "root", "namespace": "store"}, "stringData": {"user": "bob"}}
    )
    place.cluster.foreign = {("configmaps", "store", "settings")}
    # A second attempt does not take it over, either.
    for place.cluster.conflict in ("", "x" * 5_000):
        failed = place.fuseml("install", "./store", "--yes", code=1).stderr
        assert "would change objects that FuseML has not made" in failed
    assert place.cluster.get("configmaps", "settings", "store")["data"] == {"a": "mine"}
    removed = place.fuseml("uninstall", "./store", "--yes").stderr
    assert "store manifest settings.yaml" not in removed
    assert place.cluster.names("pods", "store") == []
    assert place.cluster.get("configmaps", "settings", "store")["data"] == {"a": "mine"}
    assert place.cluster.names("secrets", "store") == ["root"]
    assert "store" in place.cluster.names("namespaces")


def test_a_namespace_goes_with_the_last_of_its_tools(place: Place) -> None:
    (place.folder / "store/description.yaml").write_text(
        STORE.replace("Namespace: store", "Namespace: base").replace(", namespace: store,", ",").replace("store.store:", "store.base:")
        .replace("Requires: [base]", "Requires: []")
    )  # fmt: skip
    for file in ("objects/pod.yaml", "objects/service.yaml", "settings.yaml"):
        path = place.folder / "store" / file
        path.write_text(path.read_text().replace('"namespace": "store"', '"namespace": "base"'))
    place.fuseml("install", "./base", "--yes")
    place.fuseml("install", "./store", "--yes")
    place.fuseml("uninstall", "./base", "--yes")
    assert place.cluster.names("configmaps", "base") == ["settings"]
    place.fuseml("uninstall", "./store", "--yes")
    assert place.cluster.names("namespaces") == ["fuseml-tools", "fuseml-workloads"]


def test_the_plan_names_the_addresses_that_a_tool_is_fetched_from(place: Place) -> None:
    address = "https://example.com/releases/download/v1/base.yaml"
    (place.folder / "base/description.yaml").write_text(BASE.replace("location: base.yaml", f"location: '{address}'"))
    assert f"base is fetched from {address}\n" in place.fuseml("install", "./base", "--dry-run").stdout


def test_a_script_needs_a_consent_of_its_own(place: Place) -> None:
    (place.folder / "base/description.yaml").write_text(BASE + "  - {type: script, location: run.sh}\n")
    (place.folder / "base/run.sh").write_text('echo "done in $(pwd) ${FUSEML_TOKEN:-without token}" > result\n')
    refused = place.fuseml("install", "./base", "--yes", code=1)
    assert "pass --allow-scripts" in refused.stderr
    assert place.cluster.names("namespaces") == ["fuseml-workloads"]
    place.fuseml("install", "./base", "--yes", "--allow-scripts", "--no-register", FUSEML_TOKEN="secret-token")
    assert (place.folder / "base/result").read_text() == f"done in {place.folder / 'base'} without token\n"


def test_what_cannot_be_installed_is_refused_before_any_change(place: Place) -> None:
    empty = place.folder.parent / "empty"
    empty.mkdir()
    missing = place.fuseml("install", "./base", "--yes", code=1, PATH=str(empty)).stderr
    assert "not on the PATH; install kubectl (https://kubernetes.io/docs/tasks/tools/)" in missing
    (empty / "kubectl").symlink_to(shutil.which("kubectl") or "")
    assert "install helm (https://helm.sh" in place.fuseml("install", "mlflow", "--yes", code=1, PATH=str(empty)).stderr
    assert "did you mean 'mlflow'" in place.fuseml("install", "mlfow", "--yes", code=1).stderr
    (place.folder / "base/description.yaml").write_text(BASE + "requires: [store]\n")
    assert "base -> store -> base" in place.fuseml("install", "./base", "--yes", code=1).stderr
    (place.folder / "base/description.yaml").write_text(BASE)
    (place.folder / "base/base.yaml").unlink()
    (place.folder / "base/base.yaml").symlink_to(place.folder / "store/settings.yaml")
    assert "leads out of the folder" in place.fuseml("install", "./base", "--yes", code=1).stderr
    (place.folder / "base/base.yaml").unlink()
    (place.folder / "base/base.yaml").write_text("{}")
    place.cluster.define("certificates.cert-manager.io")
    assert "the cluster has cert-manager already" in place.fuseml("install", "cert-manager", "--yes", code=1).stderr
    place.registry.client.post("/extensions", json={"id": "store", "product": "other"})
    assert "of the product 'other'" in place.fuseml("install", "./store", "--yes", code=1).stderr
    assert place.cluster.names("namespaces") == ["fuseml-workloads"]


def test_discovery_proposes_the_tools_of_a_cluster_and_names_missing_rights(place: Place) -> None:
    place.cluster.define("inferenceservices.serving.kserve.io", **{"app.kubernetes.io/version": "v0.20.0"})
    place.cluster.define("pipelineruns.tekton.dev", "virtualservices.networking.istio.io")
    service = {**SERVICE, "metadata": {"name": "tracking", "namespace": "ml", "labels": {"app.kubernetes.io/name": "mlflow"}}}
    place.cluster.put({**service, "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}})
    rule = {"host": "ml.example.com", "http": {"paths": [{"path": "/", "backend": {"service": {"name": "tracking"}}}]}}
    place.cluster.put(
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "a", "namespace": "ml"}, "spec": {"rules": [rule]}}
    )
    place.cluster.forbidden = {"virtualservices"}
    found = place.fuseml("discover", "--cluster", "-o", "json")
    assert "may not list virtualservices.networking.istio.io at the cluster scope" in found.stderr
    proposals = {item["extension"]["id"]: item for item in json.loads(found.stdout)}
    assert sorted(proposals) == ["kserve", "mlflow", "tekton"]
    assert proposals["kserve"]["extension"]["version"] == "0.20.0"
    assert proposals["mlflow"]["extension"]["zone"] == "test"
    assert [each["url"] for each in proposals["mlflow"]["extension"]["services"][0]["endpoints"]] == [
        "http://tracking.ml.svc.cluster.local",
        "http://ml.example.com",
    ]
    place.fuseml("discover", "--cluster", "--zone", "", "--apply")
    assert place.record("mlflow")["zone"] == ""
    again = json.loads(place.fuseml("discover", "--cluster", "--zone", "", "-o", "json").stdout)
    assert {item["state"] for item in again} == {"known"}
    place.cluster.forbidden = {"services", "customresourcedefinitions", "ingresses"}
    nothing = place.fuseml("discover", "--cluster")
    assert nothing.stderr.count("warning:") == 3


def test_the_commands_of_the_page_work_and_its_description_is_valid(place: Place) -> None:
    page = (Path(__file__).parents[2] / "docs/tools.md").read_text()
    (text,) = re.findall(r"```yaml\n# description\.yaml\n(.*?)```", page, re.DOTALL)
    assert description.load(text).name == "feast"
    listed = dict(re.findall(r"^\| `([a-z-]+)` \|.*\| ([\d.]+) \| (?:helm|manifest) \|$", page, re.MULTILINE))
    assert listed == {name: folders.tool(name).description.version for name in folders.shipped()}

    def settle(item: Object) -> None:
        if item["kind"] == "StatefulSet":
            labels = item["spec"]["template"]["metadata"]["labels"]
            metadata = {"name": f"{item['metadata']['name']}-0", "namespace": item["metadata"]["namespace"], "labels": labels}
            place.cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}})
        place.settle(item)

    place.cluster.settled = settle
    (block,) = re.findall(r"^## Install\n.*?```sh\n(.*?)```", page, re.MULTILINE | re.DOTALL)
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        assert words[:2] == ["fuseml", "extension"]
        place.fuseml(*words[2:])
        if words[2:] == ["install", "versitygw", "--yes"]:
            credentials = place.record("versitygw")["services"][0]["credentials"]
            assert set(credentials[0]["configuration"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert place.cluster.names("namespaces") == ["fuseml-tools", "fuseml-workloads"]
