"""Pages that list what the code has: fields of workflows, names of errors, variables of steps. The example of a step runs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pathlib
import re
import sys
from xml.etree import ElementTree

from fuseml.cli import server
from fuseml.domain import errors
from fuseml.runtime.http import _name_of
from infra import diagrams, schema
from tests import commands, plugins

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))


def fields(page: str) -> dict[str, set[str]]:
    """The fields that a page lists, by the title of their section."""
    rows = {title: re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE) for title, text in sections(page).items()}
    return {title: {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} for title, cells in rows.items()}


def between(page: str, name: str) -> list[str]:
    """The first cells of the table between two marks."""
    _, _, rest = (DOCS / page).read_text().partition(f"<!-- {name} -->\n")
    table, end, _ = rest.partition(f"<!-- /{name} -->")
    assert end, f"{page} has no table {name}"
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_every_field_of_a_workflow_is_described() -> None:
    document = json.loads(schema.WORKFLOW.read_text())
    models = {"Workflow": document, **{name: model for name, model in document["$defs"].items() if "properties" in model}}
    assert fields((DOCS / "workflow-fields.md").read_text()) == {name: set(model["properties"]) for name, model in models.items()}


def test_the_required_fields_of_a_workflow_are_marked() -> None:
    document = json.loads(schema.WORKFLOW.read_text())
    page = (DOCS / "workflow-fields.md").read_text()
    marked = {title: set(re.findall(r"^\| `(\w+)` .*\| required \|$", text, re.MULTILINE)) for title, text in sections(page).items()}
    models = {"Workflow": document, **document["$defs"]}
    assert marked == {title: set(models[title].get("required", [])) for title in marked}


def test_every_error_has_its_way_out() -> None:
    taxonomy = {kind.name for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FusemlError)}
    of_http = {_name_of(status) for status in (405, 415, 500, 504)}
    assert set(between("troubleshooting.md", "errors")) == (taxonomy - {errors.FusemlError.name}) | of_http


def test_the_variables_of_steps_are_those_of_the_planner_and_the_engines() -> None:
    library = DOCS.parent / "shared" / "fuseml"
    texts = [path.read_text() for path in (*library.glob("domain/plans/*.py"), *library.glob("engines/local/*.py"))]
    strings = {
        node.value for text in texts for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    used = {value for value in strings if re.fullmatch(r"FUSEML_ENV_\w+|TASK_RESULT", value)}
    assert set(between("steps.md", "variables")) == used


def test_the_example_of_a_step_runs_by_hand(tmp_path: pathlib.Path) -> None:
    page = (DOCS / "steps.md").read_text()
    match = re.search(r"```python\n# scale\.py\n(.*?)```", page, re.DOTALL)
    assert match is not None
    (tmp_path / "scale.py").write_text(match[1])
    environment = {"PYTHONPATH": str(DOCS.parent / "shared"), "FUSEML_ENV_RESULTS": str(tmp_path / "results")}
    commands.run([sys.executable, "scale.py"], cwd=tmp_path, environment={**environment, "FUSEML_FACTOR": "3"})
    assert (tmp_path / "results" / "scaled").read_text() == "63"
    refused = commands.run([sys.executable, "scale.py"], cwd=tmp_path, environment={**environment, "FUSEML_FACTOR": "0"}, code=1)
    assert "give a number above 0" in refused.stderr and "Traceback" not in refused.stderr


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_another_server(tmp_path: pathlib.Path) -> None:
    """A link that leads nowhere is a warning, and so is a page outside of the navigation that is in no index."""
    options = ["--quiet", "--fail-on-warning", "--keep-going", "--conf-dir", "infra/site"]
    commands.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(tmp_path)], environment={**os.environ, "LC_ALL": "C.UTF-8"}, cwd=DOCS.parent
    )
    pages = {page.relative_to(tmp_path).as_posix(): page.read_text() for page in tmp_path.rglob("*.html")}
    assert {f"docs/{page.stem}.html" for page in DOCS.glob("*.md")} < pages.keys()
    loaded = [(name, tag) for name, text in pages.items() for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", text)]
    assert [(name, tag) for name, tag in loaded if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag)] == []
    start = pages["docs/index.html"]
    assert [page.stem for page in DOCS.glob("*.md") if page.stem != "index" and f'href="{page.stem}.html"' not in start] == []
    assert "approval" in (tmp_path / "searchindex.js").read_text()
    shown = "".join(pages.values())
    for text in diagrams.diagrams():
        assert f'<svg id="d{diagrams.picture(text).stem}"' in shown, "a diagram is a picture"
    assert "flowchart TB" not in shown


def test_every_diagram_has_a_picture_that_loads_nothing() -> None:
    wanted = {diagrams.picture(text) for text in diagrams.diagrams()}
    assert wanted == {*diagrams.FOLDER.glob("*.svg")}, "`task diagrams` draws them"
    for path in wanted:
        picture = path.read_text()
        assert not re.search(r"<script|@import|(?:href|src)=|url\((?!#)", picture), path
        ElementTree.fromstring(picture)


def test_the_seams_of_plugins_are_listed_with_their_contracts() -> None:
    rows = re.findall(r"^\| `(fuseml\.\w+)` \| (\d+) \|", (DOCS / "plugins.md").read_text(), re.MULTILINE)
    groups = [path.parent.name for path in (DOCS.parent / "shared" / "fuseml").glob("*/__init__.py") if "PLUGINS: Seam" in path.read_text()]
    assert sorted(rows) == sorted((f"fuseml.{name}", str(importlib.import_module(f"fuseml.{name}").PLUGINS.contract)) for name in groups)
    assert sorted(server._SEAMS) == sorted(f"fuseml.{name}" for name in groups)


def test_the_example_of_a_probe_runs(tmp_path: pathlib.Path) -> None:
    match = re.search(r"```python\n(# my_probe\.py\n.*?)```", (DOCS / "plugins.md").read_text(), re.DOTALL)
    assert match is not None
    plugins.package(tmp_path, "my-probe", "[fuseml.probes]\nmy-tool = my_probe:PLUGIN\n", match[1])
    script = "from fuseml.probes import PLUGINS; print([item.problem for item in PLUGINS.listed()])"
    assert commands.python(script, environment={"PYTHONPATH": str(tmp_path)}).stdout == "['']\n"
