"""Plugins of other packages: they are found by name, checked, and fail alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuseml import artifactstores, engines, githosts, probes, servings
from fuseml import plugins as seams
from fuseml.domain import errors
from tests import commands, plugins

GROUP = "fuseml.servings"
GOOD = (
    "from fuseml.plugins import Plugin\ndef connect(settings):\n    return settings\nPLUGIN = Plugin(contract=1, implementation=connect)\n"
)


@pytest.fixture
def installed(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "packages"
    folder.mkdir()
    with plugins.on_path(folder):
        yield folder


def seam() -> seams.Seam[object]:
    """The plugins of servings, searched anew."""
    return seams.Seam(GROUP, 1, ("knative",), refusal=errors.PermanentError, own=errors.FusemlError, shape="a callable that takes Settings")


def add(folder: Path, package: str, source: str, name: str = "", attribute: str = "PLUGIN") -> None:
    module = package.replace("-", "_")
    plugins.package(folder, package, f"[{GROUP}]\n{name or package} = {module}:{attribute}\n", source)


def test_a_plugin_is_found_by_its_name(installed: Path) -> None:
    add(installed, "plugin-of-tests-one", GOOD, "one")
    found = seam()
    connect = found.get("one")
    assert callable(connect) and connect(5) == 5
    assert found.get("two") is None
    assert found.names() == ["one"]
    assert [(item.name, item.package, item.version, item.problem) for item in found.listed()] == [("one", "plugin-of-tests-one", "1.0", "")]


@pytest.mark.parametrize(
    ("package", "source", "cause"),
    [
        (
            "plugin-of-tests-import",
            "import no_such_module_of_tests\n",
            "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module",
        ),
        ("plugin-of-tests-raise", "raise ValueError('line one\\nline two')\n", "cannot be loaded: ValueError: line one line two; repair"),
        ("plugin-of-tests-exit", "import sys\nsys.exit(3)\n", "cannot be loaded: SystemExit: 3"),
        ("plugin-of-tests-empty", "", "cannot be loaded: AttributeError"),
        ("plugin-of-tests-plain", "PLUGIN = print\n", "names a builtin_function_or_method, not a fuseml.plugins.Plugin"),
        (
            "plugin-of-tests-later",
            GOOD.replace("contract=1", "contract=2"),
            "made for contract 2 of fuseml.servings, and this FuseML has contract 1",
        ),
        (
            "plugin-of-tests-text",
            GOOD.replace("implementation=connect", "implementation='x'"),
            "is a str, not a callable that takes Settings",
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_cause_and_no_other_is_affected(
    installed: Path, caplog: pytest.LogCaptureFixture, package: str, source: str, cause: str
) -> None:
    add(installed, package, source, "broken")
    add(installed, f"{package}-good", GOOD, "good")
    found = seam()
    for _ in range(2):
        with pytest.raises(errors.PermanentError) as refused:
            found.get("broken")
        assert cause in refused.value.message
        assert f"the plugin 'broken' of fuseml.servings in the package {package} (" in refused.value.message
    with caplog.at_level(logging.WARNING):
        assert [name for name, _ in found.usable()] == ["good"]
        found.usable()
    assert [record.getMessage() for record in caplog.records] == [refused.value.message]
    assert {item.name: bool(item.problem) for item in found.listed()} == {"broken": True, "good": False}


def test_a_plugin_never_replaces_a_built_in_name(installed: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(installed, "plugin-of-tests-knative", "raise AssertionError('loaded')\n", "knative")
    found = seam()
    assert found.get("knative") is None
    with caplog.at_level(logging.WARNING):
        assert found.usable() == []
    assert "is ignored: 'knative' is built in" in caplog.text
    [item] = found.listed()
    assert "no plugin replaces it; rename the entry point" in item.problem


def test_two_packages_with_one_name_are_both_refused_and_named(installed: Path) -> None:
    for package in ("plugin-of-tests-first", "plugin-of-tests-second"):
        add(installed, package, GOOD, "same")
    with pytest.raises(errors.PermanentError, match="uninstall all but one") as refused:
        seam().get("same")
    assert "plugin-of-tests-first" in refused.value.message and "plugin-of-tests-second" in refused.value.message


def test_a_malformed_file_of_entry_points_hides_only_its_own_package(installed: Path) -> None:
    plugins.package(installed, "plugin-of-tests-malformed", f"[{GROUP}]\nthis is no entry point\n")
    plugins.package(installed, "plugin-of-tests-latin", "")
    [latin] = installed.glob("plugin_of_tests_latin*/entry_points.txt")
    latin.write_bytes(f"[{GROUP}]\nname = m\xfcll:PLUGIN\n".encode("latin-1"))
    add(installed, "plugin-of-tests-sound", GOOD, "sound")
    assert seam().names() == ["sound"]


def test_a_plugin_may_ask_its_own_seam_while_it_is_imported(installed: Path) -> None:
    add(installed, "plugin-of-tests-other", GOOD, "other")
    source = f"from fuseml.servings import PLUGINS\nassert PLUGINS.get('other')\n{GOOD}"
    add(installed, "plugin-of-tests-asking", source, "asking")
    code = "from fuseml.servings import PLUGINS\nassert PLUGINS.get('asking')"
    commands.python(code, environment={"PYTHONPATH": str(installed)})


def test_of_two_copies_of_a_package_the_first_one_counts(tmp_path: Path) -> None:
    for name in ("first", "second"):
        add(tmp_path / name, "plugin-of-tests-twice", GOOD.replace("return settings", f"return {name!r}"), "twice")
    with plugins.on_path(tmp_path / "second"), plugins.on_path(tmp_path / "first"):
        connect = seam().get("twice")
    assert callable(connect) and connect(0) == "first"


def test_an_exception_of_a_plugin_is_an_error_that_names_it(installed: Path) -> None:
    add(installed, "plugin-of-tests-call", GOOD, "called")
    found = seam()

    def fail(error: Exception) -> None:
        raise error

    with pytest.raises(errors.PermanentError, match=r"the plugin 'called' .* failed: KeyError: 'x'; repair or uninstall"):
        found.call("called", fail, KeyError("x"))
    with pytest.raises(errors.TemporaryError, match="later"):
        found.call("called", fail, errors.TemporaryError("later"))


def test_every_seam_has_plugins_in_the_group_of_its_name() -> None:
    for package in (artifactstores, engines, githosts, probes, servings):
        assert (package.PLUGINS.group, package.PLUGINS.contract) == (package.__name__, 1)


ALL = """
from fuseml import artifactstores, engines, githosts, probes, servings
from fuseml.domain import errors
from fuseml.runtime.settings import Settings

seams = [module.PLUGINS for module in (artifactstores, engines, githosts, probes, servings)]
assert not any("_installed" in vars(seam) for seam in seams), "every start pays for the search of plugins"
assert engines.connect(Settings(engine="mine")) == "an engine"
assert githosts.connect("mine+https://git.example", "token", "https://api.example") == ("https://git.example", "token", "https://api.example")
found = servings.connect(servings.Settings("workloads"))
assert found["mine"] == "a serving" and "broken" not in found, found
for function in (
    lambda: engines.connect(Settings(engine="other")),
    lambda: githosts.connect("other+https://git.example", "", ""),
    lambda: artifactstores.connect(artifactstores.Connection("other", "")),
    lambda: servings.select(found, "other"),
    lambda: servings.select(found, "broken"),
):
    try:
        function()
    except errors.FusemlError as error:
        print(error.message)
"""

SOURCE = """
from fuseml.plugins import Plugin

def fail(settings):
    raise RuntimeError("no reason")

ENGINE = Plugin(contract=1, implementation=lambda settings: "an engine")
HOST = Plugin(contract=1, implementation=lambda *given: given)
SERVING = Plugin(contract=1, implementation=lambda settings: "a serving")
BROKEN = Plugin(contract=1, implementation=fail)
STORE = Plugin(contract=1, implementation=fail)
"""
POINTS = """
[fuseml.engines]
mine = plugin_of_tests:ENGINE
[fuseml.githosts]
mine = plugin_of_tests:HOST
[fuseml.servings]
mine = plugin_of_tests:SERVING
broken = plugin_of_tests:BROKEN
[fuseml.artifactstores]
mine = plugin_of_tests:STORE
"""


def test_every_seam_connects_its_plugins(tmp_path: Path) -> None:
    plugins.package(tmp_path / "packages", "plugin-of-tests", POINTS, SOURCE)
    process = commands.python(ALL, environment={"PYTHONPATH": str(tmp_path / "packages")})
    assert process.stdout.splitlines() == [
        "FUSEML_ENGINE names no engine: 'other'; the known ones are mine, tekton",
        "no installed package has a git host 'other'; the known ones are mine",
        "no artifact store has the resource 'other'; the known ones are " + ", ".join(sorted({*artifactstores.CONNECTORS, "mine"})),
        "no serving 'other' is configured; the step's selector for prediction-serving must resolve to one of: "
        "kserve-api, mine, seldon-core-api, seldon-core-v2-api",
        "the plugin 'broken' connects to no serving here; the log names the reason, read at the start",
    ]
    assert "the serving broken is left out: the plugin 'broken' of fuseml.servings in the package plugin-of-tests" in process.stderr


def test_the_command_lists_plugins_with_their_problems(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    plugins.package(folder, "plugin-of-tests", POINTS + "[fuseml.probes]\ns3 = plugin_of_tests:ENGINE\n", SOURCE)
    environment = {"PYTHONPATH": str(folder), "HOME": str(tmp_path), "FUSEML_SERVER_URL": "http://127.0.0.1:1"}
    shown = commands.fuseml("version", "--plugins", environment=environment, code=1).stdout
    assert "fuseml.engines" in shown and "plugin-of-tests 1.0" in shown and "'s3' is built in" in shown
    assert "There is no plugin" in commands.fuseml("version", "--plugins", environment={**environment, "PYTHONPATH": ""}).stderr


def test_a_seam_needs_nothing_else_of_fuseml() -> None:
    """Workloads run in images that have little of it."""
    script = "import sys, fuseml.plugins; print(sorted(name for name in sys.modules if name.startswith('fuseml')))"
    assert commands.python(script).stdout.strip() == "['fuseml', 'fuseml.plugins']"
