"""Rules of the source tree that no other tool checks: where things are, what they are called, and what an import may do."""

from __future__ import annotations

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

from fuseml.runtime import catalog

ROOT = pathlib.Path(__file__).parents[2]


def sources() -> list[pathlib.Path]:
    """Every file of the repository. Hidden folders hold caches and the environment; .ci is ours and named so by those who read it."""
    found: list[pathlib.Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name == ".ci" or (not name.startswith(".") and name not in ("__pycache__", "dist")))
        found += [pathlib.Path(folder, name) for name in sorted(files)]
    return found


SOURCES = sources()
MODULES = [path for path in SOURCES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("shared", "functions")]
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/__init__.py"))


def relative(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


# The environment


READERS = re.compile(
    # Steps are programs of their own in containers of their own; their environment is their contract.
    r"functions/[^/]+/main\.py|shared/fuseml/cli/(main|settings)\.py|shared/fuseml/store/migrations/__main__\.py|shared/fuseml/steps/.*|shared/fuseml/examples/.*"
)


@pytest.mark.parametrize("path", [path for path in MODULES if not READERS.fullmatch(relative(path))], ids=relative)
def test_only_entries_read_the_environment(path: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        read = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        assert not (read and node.attr in ("environ", "environb", "getenv", "getenvb", "putenv")), f"{relative(path)}:{node.lineno}"  # type: ignore[attr-defined]
        imported = isinstance(node, ast.ImportFrom) and node.module == "os"
        assert not (imported and any(name.name in ("environ", "getenv") for name in node.names)), relative(path)  # type: ignore[attr-defined]


# Names


@pytest.mark.parametrize("word", ["util", "helper", "common", "misc", "base", "manager", "shared"])
def test_no_module_is_called_after_nothing(word: str) -> None:
    named = [relative(path) for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts[1:] if part.rstrip("s") == word]
    assert named == []


def test_every_module_says_why_it_exists() -> None:
    silent = [relative(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [path for path in silent if "/examples/" not in path] == []


def test_no_file_is_longer_than_anybody_reads() -> None:
    assert [relative(path) for path in MODULES if len(path.read_text().splitlines()) > 500] == []


# Functions


def test_every_function_is_in_the_catalogue_and_the_other_way_round() -> None:
    assert sorted(function.name for function in (*catalog.FUNCTIONS, catalog.GATEWAY)) == FUNCTIONS


@pytest.mark.parametrize("function", catalog.FUNCTIONS, ids=lambda function: function.name)
def test_a_function_has_its_files(function: catalog.Function) -> None:
    folder = ROOT / "functions" / function.name
    found = {path.name for path in folder.glob("*.py")}
    wanted = {"__init__.py", "deps.py", "app.py", "main.py", "service.py"}
    # One that takes events only has no routes: its handlers by type are in app.py.
    assert wanted | ({"routes.py"} if function.paths else set()) <= found
    assert function.paths or "routes.py" not in found
    assert function.paths or function.events


@pytest.mark.parametrize("function", catalog.FUNCTIONS, ids=lambda function: function.name)
def test_a_function_s_docstring_is_its_contract(function: catalog.Function) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "functions" / function.name / "__init__.py").read_text())) or ""
    for path in function.paths:
        assert path in text, f"the contract does not name {path}"
    assert "epends on" in text


def test_no_function_hides_an_import_from_the_interpreter() -> None:
    hiding = [relative(path) for path in MODULES if path.relative_to(ROOT).parts[0] == "functions" and "TYPE_CHECKING" in path.read_text()]
    assert hiding == [], "an import that only type checkers see hides an import circle"


def test_paths_belong_to_one_function() -> None:
    paths = [path for function in catalog.FUNCTIONS for path in function.paths]
    assert len(paths) == len(set(paths))


WATCHED = """
import importlib, os, sys

ROOT, NAMES = sys.argv[1], sys.argv[2:]
DONE = ("socket.", "sqlite3.", "subprocess.", "os.system", "os.exec", "os.fork", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.")

def watch(event, arguments):
    if event.startswith(DONE):
        raise AssertionError(f"importing does {event} {arguments}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise AssertionError(f"importing writes {arguments[0]}")

assert not [name for name in os.environ if name.startswith("FUSEML")]
sys.addaudithook(watch)
for name in NAMES:
    module = importlib.import_module(f"functions.{name}.main")
    assert callable(module.handle)
    heavy = sorted({"kubernetes", "boto3", "botocore", "mlflow", "alembic", "dulwich", "rich", "sklearn", "prometheus_client", "opentelemetry"} & set(sys.modules))
    assert not heavy, f"importing {name} imports {', '.join(heavy)}"
"""


def test_importing_functions_needs_no_environment_and_does_nothing() -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "shared"))), "PYTHONDONTWRITEBYTECODE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", WATCHED, str(ROOT), *FUNCTIONS], env=bare, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 0, told.stderr


# What is written down


# Built from pieces: this file must not hold them either.
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("proxy", "golang", "org"))]


def test_no_file_tells_where_it_was_written_or_where_packages_came_from() -> None:
    places = [str(ROOT) + "/", str(ROOT.parent) + "/shared", *HOSTS, "--index" + "-url"]
    found = []
    for path in SOURCES:
        text = path.read_bytes().decode(errors="replace")
        # uv writes it for itself; it is not in the repository.
        if path.name != "uv.lock":
            found += [f"{relative(path)}: {place}" for place in places if place in text]
    assert found == []


# What comments and documents cite

FACTS = ROOT / "infra/platform-facts.md"
# The licence cites itself; uv writes uv.lock for itself.
TEXTS = {
    relative(path): path.read_text(errors="replace")
    for path in SOURCES
    if path.name not in ("LICENSE", "uv.lock") and path.suffix != ".http"
}
CITED = re.compile(r"infra/platform-facts\.md\s+(?:#\s*)?(\d+\.\d+)")

# Standards are cited by name and number (W3C trace context 3.2), public sources by repository and path.
UNREADABLE = re.compile(
    r"\bthe design\b|\bdesign (document|section|\d)|\bsections? \d|\breferences?,? (section )?\d|\bfacts,? \d|\b(platform|cluster) facts\b"
    r"|(?<!--)\bseeds?[ _-]\d|\bseed's |\bseed (document|example|record)|\bshared/(cluster|compat|design|hooks|payloads|reference)\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("the rules (design section 5)", True),
        ("The design's budget is 10 ms", True),
        ("an example of seed 004", True),
        ("named seed-004", True),
        ("its environment (reference, section 4.4)", True),
        ("as Knative does (platform facts 3.2)", True),
        ("see section 3.13", True),
        ("counters are shared by design", False),
        ("the same seed does the same; --seed 1", False),
        ("W3C trace context 3.2, infra/platform-facts.md 3.2", False),
    ],
)
def test_a_citation_that_a_reader_cannot_open_is_recognised(text: str, refused: bool) -> None:
    assert bool(UNREADABLE.search(text)) is refused


def test_no_file_cites_a_document_that_its_reader_cannot_open() -> None:
    own = relative(pathlib.Path(__file__))  # it holds the examples above
    found = [(name, match.group()) for name, text in TEXTS.items() if name != own for match in UNREADABLE.finditer(text)]
    assert found == []


def test_every_document_that_a_file_names_is_in_the_repository() -> None:
    named = re.compile(r"(?<![\w./-])(?:infra|docs|tests)/[\w./-]+\.md\b")
    found = [(name, path) for name, text in TEXTS.items() for path in named.findall(text) if not (ROOT / path).is_file()]
    assert found == []


def test_every_platform_fact_is_cited_and_every_citation_leads_to_one() -> None:
    sections = re.findall(r"^### (\d+\.\d+) \S", FACTS.read_text(), re.MULTILINE)
    assert len(sections) == len(set(sections))
    own = (relative(FACTS), relative(pathlib.Path(__file__)))
    assert {number for name, text in TEXTS.items() if name not in own for number in CITED.findall(text)} == set(sections)


CLIMB = re.compile(r"\.parents\[(\d+)\]((?:\.parent\b)*)")


def leaves(name: str, text: str) -> bool:
    """Whether a test climbs out of the checkout: above its root, or by more folders than its own path has."""
    climbs = [int(index) + 1 + more.count(".parent") for index, more in CLIMB.findall(text)]
    return "ROOT.parent" in text or any(levels > len(pathlib.PurePath(name).parts) for levels in climbs)


def test_no_test_reads_beside_the_checkout_but_for_the_resource_definitions() -> None:
    assert leaves("tests/unit/test_a.py", "Path(__file__).parents[3]")
    assert leaves("tests/unit/test_a.py", "Path(__file__).parents[2].parent")
    assert not leaves("tests/unit/test_a.py", "Path(__file__).parents[2]")
    # This module checks that no file names what is beside the checkout.
    own = relative(pathlib.Path(__file__))
    found = [name for name, text in TEXTS.items() if name.startswith("tests/") and name.endswith(".py") and leaves(name, text)]
    assert sorted({*found} - {own}) == ["tests/crds.py"]
