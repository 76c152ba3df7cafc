"""The catalogue of tools: each page is complete and listed, its record registers as it stands, and its selector finds the record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fuseml.cli import main
from fuseml.domain.registry import selector
from fuseml.store import resolution
from tests.component import extensions_app
from tests.component.extensions_app import Registry

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "tools"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
SECTIONS = ["Record", "Selector", "What works", "What does not", "Tried"]
TRIED = {"seen on the real thing": "real", "contract only": "contract"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def sections(page: Path) -> dict[str, str]:
    return dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL))


def blocks(text: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def tried(page: Path) -> list[tuple[str, str]]:
    """The versions of a page, each with the way in which it was tried."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", sections(page)["Tried"], re.MULTILINE)
    return [(version, how) for version, how in rows if version != "version"]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    running = Registry(tmp_path)
    yield running
    running.store.close()


@each_page
def test_a_page_is_complete(page: Path) -> None:
    found = sections(page)
    assert list(found) == SECTIONS
    assert all(text.strip() for text in found.values())
    for title in ("What works", "What does not"):
        assert found[title].lstrip().startswith("- "), f"{title} is a list"
    assert tried(page), "the page names the versions that were tried"
    for version, how in tried(page):
        assert how.startswith(tuple(TRIED)), f"{version}: {how!r} begins with one of {sorted(TRIED)}"


@each_page
def test_the_record_of_a_page_registers_and_its_selector_finds_it(registry: Registry, page: Path, tmp_path: Path) -> None:
    records, selectors = (blocks(sections(page)[title]) for title in ("Record", "Selector"))
    if not records:
        assert re.search(r"^No record is needed", sections(page)["Record"].lstrip()), "a page without a record says so at its beginning"
        return
    bound = []
    with extensions_app.serve(registry.app) as url:
        for number, record in enumerate(records):
            file = tmp_path / f"{number}.yaml"
            file.write_text(record)
            secrets = {name: f"secret-{name}" for name in re.findall(r"\$\{env:(\w+)\}", record)}
            environment = {"FUSEML_SERVER_URL": url, "FUSEML_HOME": str(tmp_path), "FUSEML_CONFIG": str(tmp_path / "none"), **secrets}
            assert main.run(["extension", "register", "-f", str(file)], environment) == 0, record
            bound.append(yaml.safe_load(record)["id"])
    wanted = [selector.Selector.model_validate(item) for block in selectors for item in yaml.safe_load(block)]
    assert wanted, "the page shows a selector"
    with registry.store.read() as session:
        bindings = resolution.resolve(session, wanted, selector.Context()).bindings
    assert {binding.extension_id for binding in bindings} <= set(bound)


@each_page
def test_a_page_is_in_the_index_and_in_the_table_of_the_readme(page: Path) -> None:
    assert f"]({page.name}) |" in (FOLDER / "index.md").read_text()
    row = re.search(rf"^\|.*\(docs/tools/{page.name}\).*\| (\w+) \| (.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert row is not None, "the README's table of tools has a row with the link"
    ways = {TRIED[prefix] for _, how in tried(page) for prefix in TRIED if how.startswith(prefix)}
    assert row[1] == ("real" if "real" in ways else "contract")
    assert not row[2].strip() or all(any(word in version for version, _ in tried(page)) for word in re.findall(r"\d[\w.]*", row[2])), (
        "the versions are those of the page"
    )
