"""The documentation agrees with the tree: links lead somewhere, named files exist, the README stays short."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("infra/**/*.md")])
LIBRARY = ROOT / "shared" / "fuseml"


def named(page: pathlib.Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors that a page's headings have on the usual hosts."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: pathlib.Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{named(page)}: {link}"


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_named_file_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    for name in re.findall(r"`((?:[\w<>*-]+/)+[\w<>*.-]*|[\w-]+\.(?:py|toml|yml|md))(?::[^`]*)?`", text):
        pattern = re.sub(r"<\w+>|NAME", "*", name).rstrip("/")
        places = (ROOT, LIBRARY, ROOT / "functions" / "*", LIBRARY / "*", ROOT / "tests" / "contract")
        assert any(next(pathlib.Path(ROOT).glob((place / pattern).relative_to(ROOT).as_posix()), None) for place in places), (
            f"{page}: {name}"
        )


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 250


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in ROOT.glob("docs/*.md") if f"(docs/{page.name})" not in readme] == []


def test_every_decision_is_in_the_index() -> None:
    index = (ROOT / "ARCHITECTURE.md").read_text()
    for page in ROOT.glob("infra/decisions/*.md"):
        title = page.read_text().splitlines()[0].removeprefix("# ").partition(". ")[2]
        assert f"(infra/decisions/{page.name}) | {title} |" in index, page.name
