"""The builder step of the local engine behind a company's proxy: a real one, which alone knows the package index."""

from __future__ import annotations

import base64
import http.server
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fuseml.domain import plans
from fuseml.embedded import inheritance
from tests.contract import engines

from . import wheels

INDEX, PASSWORD, INDEX_PASSWORD = "packages.corp.invalid", "proxy-pa55word", "index-pa55word"
WHEEL = "tiny_ml-1.2.0-py3-none-any.whl"
CHECKOUT = plans.Checkout(name="code", project="p", codeset="c", url="u", ref="main", commit="a" * 40, path="/project")


class Proxy(http.server.BaseHTTPRequestHandler):
    """Answers for the index, to users who know both passwords."""

    seen: list[str] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.headers.get("Proxy-Authorization") != basic("me", PASSWORD):
            return self._answer(407, b"", "text/plain")
        if self.headers.get("Authorization") != basic("you", INDEX_PASSWORD):
            return self._answer(401, b"", "text/plain", ("WWW-Authenticate", "Basic"))
        files: dict[str, tuple[bytes, str]] = {}
        for name in wheels.MODULES:
            wheel, content = wheels.wheel(name)
            files[f"http://{INDEX}/packages/{name}/"] = f'<a href="/files/{wheel}">{wheel}</a>'.encode(), "text/html"
            files[f"http://{INDEX}/files/{wheel}"] = content, "application/octet-stream"
        body, kind = files.get(self.path, (b"", ""))
        return self._answer(200 if body else 404, body, kind or "text/plain")

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, kind: str, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the output of the tests quiet."""


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def proxy() -> Iterator[str]:
    Proxy.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:{PASSWORD}@127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def write_codeset(checkout: plans.Checkout, directory: Path) -> Sequence[plans.Submodule]:
    (directory / "requirements.txt").write_text("tiny-ml==1.2.0\n")
    return ()


def test_the_builder_installs_by_a_proxy_from_a_private_index_and_its_log_has_no_password(tmp_path: Path, proxy: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "http_proxy": proxy, "UV_DEFAULT_INDEX": f"http://you:{INDEX_PASSWORD}@{INDEX}/packages"}
    kept = inheritance.variables(environment, [], "127.0.0.1")
    build = plans.StepPlan(
        name="build",
        image=plans.text("ghcr.io/fuseml/mlflow-builder:v1"),
        checkouts=(CHECKOUT,),
        outputs=(plans.Output(name="image"),),
    )
    use = engines.shell("use", "python -c 'import tiny_ml; print(tiny_ml.ANSWER)'; env", needs=("build",))
    use = use.model_copy(update={"image": engines.out("build", "image")})
    plan = engines.make_plan(build, use)
    options: engines.EngineOptions = {"environment": kept, "masked": inheritance.secrets(kept), "checkout": write_codeset}
    with engines.local_engine(tmp_path, **options) as under_test:
        result = under_test.run(plan)
        logs = under_test.log(plan, "build"), under_test.log(plan, "use")
    assert result.run.state == "succeeded", logs
    assert logs[1].startswith("42\n")
    assert f"http://{INDEX}/files/{WHEEL}" in Proxy.seen
    image = result.steps["build"].outputs["image"]
    assert image.startswith("fuseml.local/mlflow-trainer:p.")
    assert (tmp_path / "environments" / "p" / image.rpartition(".")[2]).is_dir()
    for secret in (PASSWORD, INDEX_PASSWORD):
        assert not any(secret in log for log in logs)
    assert "<hidden>@" in logs[1]
