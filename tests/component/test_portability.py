"""Two instances: a workflow is moved from one registry to another by `workflow check`."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from fuseml.cli import main
from tests import databases
from tests.component.sourced import Sourced

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

TOKEN = "the-token"
WORKFLOW = """\
name: train
steps:
  - name: fit
    image: shell:1
    extensions:
      - {name: tracking, product: mlflow, version: ">=2", service_resource: mlflow-tracking}
      - {name: store, service_resource: s3}
"""


def mlflow(version: str, url: str) -> dict[str, Any]:
    return {
        "id": "mlflow",
        "product": "mlflow",
        "version": version,
        "services": [{"id": "t", "resource": "mlflow-tracking", "endpoints": [{"url": url}]}],
    }


def store(url: str, secret: str) -> dict[str, Any]:
    account = {"id": "a", "configuration": {"AWS_SECRET_ACCESS_KEY": secret}}
    service = {"id": "s3", "resource": "s3", "auth_required": True, "endpoints": [{"url": url}], "credentials": [account]}
    return {"id": "minio", "product": "minio", "version": "1", "services": [service]}


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def instance(folder: Path) -> Iterator[tuple[Sourced, str]]:
    """An instance with its URL."""
    folder.mkdir()
    system = Sourced(databases.on_sqlite(folder / "fuseml.db"), folder)

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        function = environ["PATH_INFO"].split("/")[1]
        return system.functions[function].wsgi_app(environ, start)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield system, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        system.store.close()


def test_a_workflow_moves_to_another_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with instance(tmp_path / "one") as (one, here), instance(tmp_path / "two") as (two, there):

        def fuseml(*arguments: str, url: str = here, code: int = 0, **more: str) -> str:
            environment = {"FUSEML_SERVER_URL": url, "FUSEML_TOKEN": TOKEN, "FUSEML_HOME": str(tmp_path), "COLUMNS": "80", **more}
            assert main.run(arguments, environment) == code, capsys.readouterr()
            return capsys.readouterr().out

        def check(against: str, code: int = 0, **more: str) -> dict[str, tuple[str, str]]:
            found = json.loads(fuseml("workflow", "check", "train", "--against", against, "-o", "json", code=code, **more))
            assert found["refusals"] == []
            assert found["portable"] == (code == 0)
            return {item["selector"]: (item["state"], item["there"]) for item in found["comparisons"]}

        for system, records in (
            (one, [mlflow("2.19", "http://one"), store("http://minio", "canary-1")]),
            (two, [mlflow("3.1", "http://two")]),
        ):
            for record in records:
                system.call("POST", "/extensions", record, status=201)
        (tmp_path / "train.yaml").write_text(WORKFLOW)
        fuseml("workflow", "create", str(tmp_path / "train.yaml"))

        # What is missing there is known before anything is moved, from the server or from its records in a file.
        other = there.replace("http://", f"http://:{TOKEN}@")
        expected = {"tracking": ("differs", "mlflow/t at http://two"), "store": ("missing", "")}
        assert check(other, 1) == check(there, 1, FUSEML_AGAINST_TOKEN=TOKEN) == expected
        (tmp_path / "registry.yaml").write_text(fuseml("extension", "list", "-o", "yaml", url=there))
        assert check(str(tmp_path / "registry.yaml"), 1) == expected
        table = fuseml("workflow", "check", "train", "--against", other, code=1)
        assert "~ fit/tracking: version is 2.19 here, 3.1 there\n" in table
        assert "- fit/store: mlflow/t: its resource is mlflow-tracking, not s3\n" in table
        assert table.endswith("It does not run there: 1 differs, 1 missing.\n")
        assert max(map(len, table.split("\n\n")[0].splitlines()[:3])) <= 80

        # The files of the other registry, with references that only its own operator resolves, bind.
        folder = tmp_path / "registry"
        folder.mkdir()
        (folder / "all.yaml").write_text(
            f"{json.dumps(mlflow('3.1', 'http://two'))}\n---\n{json.dumps(store('http://ceph', '${env:GONE}'))}\n"
        )
        assert check(str(folder)) == {"tracking": expected["tracking"], "store": ("binds", "minio/s3 at http://ceph")}
        fuseml("extension", "apply", "-f", str(folder), "--yes", url=there, GONE="canary-2")
        assert check(other) == {"tracking": expected["tracking"], "store": ("binds", "minio/s3 at http://ceph")}

        # The workflow moves, and binds as was said.
        (tmp_path / "moved.yaml").write_text(fuseml("workflow", "get", "train", "-o", "yaml"))
        fuseml("workflow", "create", str(tmp_path / "moved.yaml"), url=there)
        plan = two.call("POST", "/workflows/train/plan", {})
        bound = {item["binding"]["name"]: (item["binding"]["extension_id"], item["binding"]["url"]) for item in plan["bindings"]}
        assert bound == {"tracking": ("mlflow", "http://two"), "store": ("minio", "http://ceph")}
        assert fuseml("workflow", "check", "train", "--against", here.replace("http://", f"http://:{TOKEN}@"), url=there).endswith(
            "It runs there: 1 binds, 1 differs.\n"
        )


def test_a_document_that_the_other_instance_refuses_does_not_run_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with instance(tmp_path / "one") as (one, here), instance(tmp_path / "two") as (_, there):
        environment = {"FUSEML_SERVER_URL": here, "FUSEML_TOKEN": TOKEN, "FUSEML_HOME": str(tmp_path), "FUSEML_AGAINST_TOKEN": TOKEN}
        one.call("POST", "/workflows", {"name": "w", "steps": [{"name": "a", "image": "shell:1"}]}, status=201)
        assert main.run(["workflow", "check", "w", "--against", there], environment) == 0
        assert "selects no service" in capsys.readouterr().out
        assert main.run(["workflow", "check", "gone", "--against", there], environment) == 1
        # Without a token of its own the other server gets none.
        del environment["FUSEML_AGAINST_TOKEN"]
        assert main.run(["workflow", "check", "w", "--against", there], environment) == 1
        assert "a token is needed" in capsys.readouterr().err
