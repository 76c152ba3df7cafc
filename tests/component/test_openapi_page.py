"""The page of the OpenAPI document: served whole by both entrances, and by no other server."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

import pytest
from werkzeug.test import Client

from functions.gateway.app import create_app
from functions.gateway.deps import Deps
from fuseml.embedded import composition


@pytest.fixture(scope="module", params=["embedded", "gateway"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if request.param == "gateway":
        yield Client(create_app(Deps(functions_url="http://{function}.invalid")))
        return
    parts = composition.compose(
        tmp_path_factory.mktemp("home"), "http://127.0.0.1:1", "token", mlflow="none", anonymous=False, environment={}
    )
    yield Client(parts.gateway)
    parts.state.store.close()


def references(page: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"]+)"', page)


def test_the_page_is_there_without_a_token_and_names_its_files_by_relative_addresses(client: Client) -> None:
    answer = client.get("/docs")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert "docs/swagger-ui-bundle.js" in references(answer.text)
    assert all(re.fullmatch(r"docs/[\w.-]+|openapi\.json", reference) for reference in references(answer.text))
    # The policy refuses scripts and styles within the page.
    assert re.findall(r"<script(?! src=)[^>]*>|<style|\son\w+=| style=", answer.text) == []


def test_every_file_of_the_page_is_served_under_a_policy_that_allows_no_other_server(client: Client) -> None:
    for reference in references(client.get("/docs").text):
        if reference != "openapi.json":
            answer = client.get(f"/{reference}")
            assert answer.status_code == 200, reference
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.mimetype == {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[reference.rpartition(".")[2]]


def test_the_page_reads_the_document_and_sends_nothing_else(client: Client) -> None:
    script = client.get("/docs/page.js").text
    assert 'url: "openapi.json"' in script and "supportedSubmitMethods: []" in script and "validatorUrl: null" in script
    assert "SwaggerUIBundle" in client.get("/docs/swagger-ui-bundle.js").text


def test_a_browser_keeps_the_files(client: Client) -> None:
    first = client.get("/docs/swagger-ui.css")
    assert client.get("/docs/swagger-ui.css", headers={"If-None-Match": first.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize("name", ["nothing.js", "swagger-ui-standalone-preset.js", "..", "__init__.py"])
def test_no_other_file_is_served(client: Client, name: str) -> None:
    assert client.get(f"/docs/{name}").status_code in (400, 404)


def test_the_index_names_the_page(client: Client) -> None:
    assert client.get("/").get_json()["docs"] == "/docs"


def test_the_package_is_not_imported(client: Client) -> None:
    assert client.get("/docs/swagger-ui.css").status_code == 200
    assert not any(name.startswith("flask_openapi3") for name in sys.modules)
