"""Rules of the source tree that no other tool checks: places and names of files, effects of imports, citations."""

from __future__ import annotations

import ast
import os
import pathlib
import re

import pytest

from fuseml.runtime import catalog
from tests import commands

ROOT = pathlib.Path(__file__).parents[2]


def sources() -> list[pathlib.Path]:
    """Every file of the repository. Hidden folders but .ci hold caches and the environment."""
    paths: list[pathlib.Path] = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name == ".ci" or (not name.startswith(".") and name not in ("__pycache__", "dist")))
        paths += [pathlib.Path(folder, name) for name in sorted(files)]
    return paths


SOURCES = sources()
MODULES = [path for path in SOURCES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("shared", "functions")]
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/__init__.py"))


def relative(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


# The environment


READERS = re.compile(
    # Steps are separate programs in containers; their environment is their interface, and so are those that move artifacts beside them.
    # MLflow starts `tracking_app` in a process of its own. `fuseml.Client` reads what the command reads.
    r"functions/[^/]+/main\.py|shared/fuseml/cli/(main|settings)\.py|shared/fuseml/(store/migrations|servings|deployment)/__main__\.py|shared/fuseml/client/session\.py"
    r"|shared/fuseml/steps/.*|shared/fuseml/examples/.*"
    r"|shared/fuseml/embedded/tracking_app\.py|shared/fuseml/artifactstores/(fetch|collect|convert)\.py"
    r"|shared/fuseml/agents/(folder_store|command)\.py|shared/fuseml/workloads/trainer\.py"
)


@pytest.mark.parametrize("path", [path for path in MODULES if not READERS.fullmatch(relative(path))], ids=relative)
def test_only_entry_points_read_the_environment(path: pathlib.Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        read = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
        assert not (read and node.attr in ("environ", "environb", "getenv", "getenvb", "putenv")), f"{relative(path)}:{node.lineno}"  # type: ignore[attr-defined]
        imported = isinstance(node, ast.ImportFrom) and node.module == "os"
        assert not (imported and any(name.name in ("environ", "getenv") for name in node.names)), relative(path)  # type: ignore[attr-defined]


# Names


@pytest.mark.parametrize("word", ["util", "helper", "common", "misc", "base", "manager", "shared"])
def test_no_module_has_an_empty_name(word: str) -> None:
    violations = [
        relative(path) for path in MODULES for part in path.relative_to(ROOT).with_suffix("").parts[1:] if part.rstrip("s") == word
    ]
    assert violations == []


def test_every_module_has_a_docstring() -> None:
    undocumented = [relative(path) for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert [path for path in undocumented if "/examples/" not in path] == []


def test_no_module_has_more_than_500_lines() -> None:
    assert [relative(path) for path in MODULES if len(path.read_text().splitlines()) > 500] == []


# Functions


def test_the_catalogue_lists_exactly_the_functions() -> None:
    assert sorted(function.name for function in (*catalog.FUNCTIONS, catalog.GATEWAY)) == FUNCTIONS


@pytest.mark.parametrize("function", catalog.FUNCTIONS, ids=lambda function: function.name)
def test_a_function_has_its_files(function: catalog.Function) -> None:
    folder = ROOT / "functions" / function.name
    names = {path.name for path in folder.glob("*.py")}
    required = {"__init__.py", "deps.py", "app.py", "main.py", "service.py"}
    # A function that only consumes events has no routes: its handlers by type are in app.py.
    assert required | ({"routes.py"} if function.paths else set()) <= names
    assert function.paths or "routes.py" not in names
    assert function.paths or function.events


@pytest.mark.parametrize("function", catalog.FUNCTIONS, ids=lambda function: function.name)
def test_the_docstring_of_a_function_states_its_contract(function: catalog.Function) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "functions" / function.name / "__init__.py").read_text())) or ""
    for path in function.paths:
        assert path in text, f"the contract does not name {path}"
    assert "epends on" in text


def test_no_function_imports_for_type_checkers_only() -> None:
    violations = [
        relative(path) for path in MODULES if path.relative_to(ROOT).parts[0] == "functions" and "TYPE_CHECKING" in path.read_text()
    ]
    assert violations == [], "an import that only type checkers see hides an import circle"


def test_every_path_belongs_to_one_function() -> None:
    paths = [path for function in catalog.FUNCTIONS for path in function.paths]
    assert len(paths) == len(set(paths))


IMPORTS = """
import importlib, os, sys

ROOT, NAMES = sys.argv[1], sys.argv[2:]
EFFECTS = ("socket.", "sqlite3.", "subprocess.", "os.system", "os.exec", "os.fork", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.")

def watch(event, arguments):
    if event.startswith(EFFECTS):
        raise AssertionError(f"an import calls {event} {arguments}")
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise AssertionError(f"an import writes {arguments[0]}")

assert not [name for name in os.environ if name.startswith("FUSEML")]
sys.addaudithook(watch)
for name in NAMES:
    module = importlib.import_module(f"functions.{name}.main")
    assert callable(module.handle)
    heavy = {"kubernetes", "boto3", "botocore", "mlflow", "alembic", "dulwich", "rich", "sklearn", "prometheus_client", "opentelemetry"}
    heavy = sorted(heavy & set(sys.modules))
    assert not heavy, f"the import of {name} imports {', '.join(heavy)}"
"""


def test_the_import_of_a_function_needs_no_environment_and_has_no_effect() -> None:
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "shared"))), "PYTHONDONTWRITEBYTECODE": "1"}
    commands.python(IMPORTS, ROOT, *FUNCTIONS, environment=bare, cwd="/")


# Tests


TESTS = [path for path in SOURCES if path.suffix == ".py" and path.relative_to(ROOT).parts[0] == "tests" and "bench" not in path.parts]
# A fake that plans ahead, and the storms, which are commands with a limit of their own.
BY_THE_CLOCK = {"tests/component/tekton.py", "tests/component/storm.py", "tests/embedded/chaos.py"}
# Bytes, an account of its own, and a push that may fail.
BY_THEMSELVES = {"tests/commands.py", "tests/component/gitea.py", "tests/postgresql.py", "tests/embedded/chaos.py"}


def calls(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(part, ast.Call) and ast.unparse(part.func) in names for part in ast.walk(node))


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_no_test_has_a_time_limit_of_its_own_and_commands_show_their_output(path: pathlib.Path) -> None:
    """`tests/waiting.py` holds the one bound of waits, `tests/commands.py` runs commands; only benchmarks measure time."""
    for node in ast.walk(ast.parse(path.read_text())):
        limits = isinstance(node, ast.Compare) and any(isinstance(operator, ast.Lt | ast.LtE) for operator in node.ops)
        if limits and relative(path) not in BY_THE_CLOCK:
            assert not calls(node, {"time.monotonic", "time.perf_counter", "time.process_time"}), f"{relative(path)}:{node.lineno}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call) and relative(path) not in BY_THEMSELVES:
            assert ast.unparse(node.func) not in {"subprocess.run", "subprocess.check_output"}, f"{relative(path)}:{node.lineno}"


# Texts


# Composed here, because this file must not hold them either.
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("proxy", "golang", "org"))]


def test_no_file_names_a_path_of_its_machine_or_a_package_registry() -> None:
    places = [str(ROOT) + "/", str(ROOT.parent) + "/shared", *HOSTS, "--index" + "-url"]
    violations = []
    for path in SOURCES:
        text = path.read_bytes().decode(errors="replace")
        # uv.lock is not in the repository.
        if path.name != "uv.lock":
            violations += [f"{relative(path)}: {place}" for place in places if place in text]
    assert violations == []


# Citations

FACTS = ROOT / "infra/platform-facts.md"
# The licence cites itself; uv.lock is not in the repository.
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
def test_the_pattern_matches_citations_of_unavailable_documents(text: str, refused: bool) -> None:
    assert bool(UNREADABLE.search(text)) is refused


def test_no_file_cites_an_unavailable_document() -> None:
    own = relative(pathlib.Path(__file__))  # it holds the examples above
    violations = [(name, match.group()) for name, text in TEXTS.items() if name != own for match in UNREADABLE.finditer(text)]
    assert violations == []


def test_every_cited_document_is_in_the_repository() -> None:
    cited = re.compile(r"(?<![\w./-])(?:infra|docs|tests)/[\w./-]+\.md\b")
    violations = [(name, path) for name, text in TEXTS.items() for path in cited.findall(text) if not (ROOT / path).is_file()]
    assert violations == []


def test_the_cited_platform_facts_are_exactly_the_existing_ones() -> None:
    sections = re.findall(r"^### (\d+\.\d+) \S", FACTS.read_text(), re.MULTILINE)
    assert len(sections) == len(set(sections))
    own = (relative(FACTS), relative(pathlib.Path(__file__)))
    assert {number for name, text in TEXTS.items() if name not in own for number in CITED.findall(text)} == set(sections)


PARENTS = re.compile(r"\.parents\[(\d+)\]((?:\.parent\b)*)")


def leaves_checkout(name: str, text: str) -> bool:
    """Whether a test names a path outside the checkout: above its root, or by more parents than its own path has."""
    levels_up = [int(index) + 1 + more.count(".parent") for index, more in PARENTS.findall(text)]
    return "ROOT.parent" in text or any(levels > len(pathlib.PurePath(name).parts) for levels in levels_up)


def test_only_the_resource_definitions_are_read_from_outside_the_checkout() -> None:
    assert leaves_checkout("tests/unit/test_a.py", "Path(__file__).parents[3]")
    assert leaves_checkout("tests/unit/test_a.py", "Path(__file__).parents[2].parent")
    assert not leaves_checkout("tests/unit/test_a.py", "Path(__file__).parents[2]")
    # This module holds the patterns itself.
    own = relative(pathlib.Path(__file__))
    readers = [name for name, text in TEXTS.items() if name.startswith("tests/") and name.endswith(".py") and leaves_checkout(name, text)]
    assert sorted({*readers} - {own}) == ["tests/crds.py"]
