"""Which file describes the environment of a codeset, and what each kind of file asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import packaging.requirements
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import sdk
from fuseml.steps.dependencies import checkout, discovery, pipfile, requirements

PROJECT = """
[project]
name = "mine"
version = "1"
requires-python = ">=3.9"
dependencies = ["mlflow>=2", "six"]
[project.optional-dependencies]
Train_It = ["torch"]
[dependency-groups]
base = ["rich"]
plots = [{include-group = "base"}, "altair"]
"""
POETRY = """
[tool.poetry]
name = "mine"
version = "1"
description = ""
authors = []
[tool.poetry.dependencies]
python = "^3.9"
mlflow = "^2.9"
six = {version = "~1.16", markers = "sys_platform == 'linux'"}
torch = {version = "*", optional = true}
[tool.poetry.extras]
train = ["torch"]
[tool.poetry.group.plots.dependencies]
altair = "*"
[tool.poetry.group.gpu]
optional = true
[tool.poetry.group.gpu.dependencies]
cupy = ">=13"
[tool.poetry.group.dev.dependencies]
pytest = "*"
"""
PIPFILE = """
[[source]]
url = "https://packages.example/python"
verify_ssl = true
name = "pypi"
[packages]
mlflow = "*"
six = "==1.16.0"
torch = {version = ">=2", extras = ["opt-einsum"], sys_platform = "== 'linux'"}
own = {path = "./own", editable = true}
other = {git = "https://example.com/other.git", ref = "v1"}
[dev-packages]
pytest = "*"
[requires]
python_version = "3.11"
"""
PIPFILE_LOCK = """{"_meta": {"requires": {"python_version": "3.11"}, "sources": [{"url": "https://packages.example/python", "name": "pypi"}]},
"default": {"mlflow": {"version": "==2.9.2", "hashes": ["sha256:aa"], "markers": "python_version >= '3.8'"}},
"develop": {"pytest": {"version": "==8.0"}}}"""
POETRY_LOCK = """
[[package]]
name = "six"
version = "1.16.0"
[[package]]
name = "numpy"
version = "1.26"
[[package]]
name = "numpy"
version = "2.0"
"""
PYLOCK = """
lock-version = "1.0"
requires-python = ">=3.9"
[[packages]]
name = "six"
version = "1.16.0"
[[packages]]
name = "own"
directory = {path = "."}
"""
SETUP_CFG = (
    "[metadata]\nname = mine\n[options]\npython_requires = >=3.9\n"
    "install_requires =\n  mlflow\n  six>1\n[options.extras_require]\ntrain = torch\n"
)


def codeset(folder: Path, **files: str) -> checkout.Folder:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return checkout.Folder(folder)


def export(_: Path, arguments: Sequence[str]) -> str:
    assert "--frozen" in arguments
    return "mlflow==2.9.2\nsix==1.16.0 ; sys_platform == 'linux'\n"


def find(files: checkout.Folder, file: str = "", **parts: tuple[str, ...]) -> requirements.Environment:
    choices = discovery.Choices(file, extras=parts.get("extras", ()), groups=parts.get("groups", ()))
    return discovery.environment(files, choices, export)


ORDER = {
    "uv.lock": {"uv_DOT_lock": "", "pyproject_DOT_toml": PROJECT},
    "pylock.toml": {"pylock_DOT_toml": PYLOCK},
    "pyproject.toml": {"pyproject_DOT_toml": PROJECT},
    "requirements.txt": {"requirements_DOT_txt": "mlflow"},
    "python_env.yaml": {"python_env_DOT_yaml": "dependencies: [mlflow]"},
    "environment.yaml": {"environment_DOT_yaml": "dependencies: [mlflow]"},
    "environment.yml": {"environment_DOT_yml": "dependencies: [mlflow]"},
    "conda.yaml": {"conda_DOT_yaml": "dependencies: [mlflow]"},
    "conda.yml": {"conda_DOT_yml": "dependencies: [mlflow]"},
    "Pipfile.lock": {"Pipfile_DOT_lock": PIPFILE_LOCK},
    "Pipfile": {"Pipfile": PIPFILE},
    "setup.py": {"setup_DOT_py": ""},
    "setup.cfg": {"setup_DOT_cfg": SETUP_CFG},
}


@pytest.mark.parametrize("last", range(len(ORDER)), ids=list(ORDER))
def test_the_first_file_of_the_order_counts(last: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for files in list(ORDER.values())[last:]:
        codeset(tmp_path, **{name: text for name, text in files.items() if last == 0 or name != "pyproject_DOT_toml" or last == 2})
    name = list(ORDER)[last]
    assert find(checkout.Folder(tmp_path)).source == name
    assert f"dependencies: {name} (" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["extras", "groups"])
@pytest.mark.parametrize("name", ["", *ORDER])
def test_no_extra_or_group_is_ignored(name: str, kind: str, tmp_path: Path) -> None:
    files = codeset(tmp_path, **ORDER[name]) if name else checkout.Folder(tmp_path)
    if (name, kind) == ("setup.py", "extras"):
        assert ".[absent]" in find(files, name, extras=("absent",)).text  # only the project's own backend knows them
        return
    with pytest.raises(sdk.StepError, match=rf"there is no {kind[:-1]} 'absent'|has no (extras|groups|extras or groups): remove the input"):
        find(files, name, extras=("absent",) if kind == "extras" else (), groups=("absent",) if kind == "groups" else ())


@pytest.mark.parametrize(("group", "expected"), [("dev", "pytest"), ("plots", "bokeh")])
@pytest.mark.parametrize("name", ["Pipfile", "Pipfile.lock"])
def test_a_group_of_pipenv_is_a_category(name: str, group: str, expected: str, tmp_path: Path) -> None:
    text = '[packages]\nmlflow = "*"\n[dev-packages]\npytest = "*"\n[plots]\nbokeh = "*"\n'
    lock = '{"_meta": {}, "default": {"mlflow": {}}, "develop": {"pytest": {}}, "plots": {"bokeh": {}}}'
    codeset(tmp_path, Pipfile=text, Pipfile_DOT_lock=lock)
    assert find(checkout.Folder(tmp_path), name, groups=(group,)).names() == {"mlflow", expected}


def test_the_index_of_one_package_of_pipenv_is_noted(tmp_path: Path) -> None:
    files = codeset(tmp_path, Pipfile='[packages]\nmlflow = {version = "*", index = "own"}\n')
    assert "Pipfile: packages.mlflow: the package is looked for in all sources, not only in 'own'" in find(files).notes


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[project]\nname = "x"\ndependencies = "numpy"\n', "project.dependencies"),
        ('[project]\nname = "x"\ndependencies = ["numpy", 1]\n', "project.dependencies"),
        ('[project]\nname = "x"\ndependencies = []\noptional-dependencies.a = "numpy"\n', "project.optional-dependencies.a"),
        ('[project]\nname = "x"\ndependencies = []\n[dependency-groups]\na = "numpy"\n', "dependency-groups.a"),
        ('[project]\nname = "x"\ndependencies = []\n[dependency-groups]\na = [{include = "b"}]\n', "dependency-groups.a"),
    ],
)
def test_no_part_of_a_project_is_ignored(text: str, key: str, tmp_path: Path) -> None:
    files = codeset(tmp_path, pyproject_DOT_toml=text)
    with pytest.raises(sdk.StepError, match=rf"pyproject\.toml: {key}: must be a list"):
        find(files, extras=("a",) if "optional" in key else (), groups=("a",) if "groups" in key else ())


@pytest.mark.parametrize(
    ("mlproject", "source"),
    [
        ("python_env: envs/mine.yaml", "envs/mine.yaml"),
        ("conda_env: envs/mine.yaml", "envs/mine.yaml"),
        ("name: mine", "conda.yaml"),
    ],
)
def test_an_mlproject_names_the_file_or_means_the_default_of_mlflow(mlproject: str, source: str, tmp_path: Path) -> None:
    files = codeset(
        tmp_path,
        MLproject=mlproject,
        requirements_DOT_txt="six",
        conda_DOT_yaml="dependencies: [mlflow]",
        envs__mine_DOT_yaml="dependencies: [mlflow]",
    )
    assert find(files).source == source


def test_the_step_can_name_another_file(tmp_path: Path) -> None:
    files = codeset(tmp_path, requirements_DOT_txt="six", train__requirements_DOT_txt="mlflow", train__pyproject_DOT_toml=PROJECT)
    assert find(files, "train/requirements.txt").requirements == ("mlflow",)
    assert find(files, "train/pyproject.toml").folder == "train"
    with pytest.raises(sdk.StepError, match=r"the input 'dependencies' names 'no.txt', and the codeset has no such file"):
        find(files, "no.txt")


def test_a_codeset_without_a_file_has_no_environment(tmp_path: Path) -> None:
    files = codeset(tmp_path, train_DOT_py="", pyproject_DOT_toml="[tool.ruff]\n", requirements_dev_DOT_txt="pytest")
    (tmp_path / "requirements_dev.txt").rename(tmp_path / "requirements-dev.txt")
    assert find(files) is discovery.BUILT_IN


def test_the_only_requirements_file_of_training_counts(tmp_path: Path) -> None:
    codeset(tmp_path, dev="pytest", train="mlflow")
    (tmp_path / "dev").rename(tmp_path / "requirements-dev.txt")
    (tmp_path / "train").rename(tmp_path / "requirements-train.txt")
    assert find(checkout.Folder(tmp_path)).source == "requirements-train.txt"
    (tmp_path / "requirements_models.txt").write_text("six")
    with pytest.raises(sdk.StepError, match=r"several requirements files: requirements-train.txt, requirements_models.txt; name one"):
        find(checkout.Folder(tmp_path))


def test_mlflow_is_added_and_noted_only_where_it_is_missing(tmp_path: Path) -> None:
    added = find(codeset(tmp_path, requirements_DOT_txt="six"))
    assert added.additions == ("mlflow",)
    assert "requirements.txt does not list mlflow, which records the training and serves the model: it is added" in added.notes
    assert find(codeset(tmp_path, requirements_DOT_txt="mlflow-skinny")).additions == ()


def test_what_runs_the_program_is_added_unless_it_is_listed(tmp_path: Path) -> None:
    found = requirements.added(
        find(codeset(tmp_path, requirements_DOT_txt="six\nPaper_Mill<3")), ["paper-mill>=2", "dvc[s3]"], "which runs it"
    )
    assert found.additions == ("mlflow", "dvc[s3]")
    assert found.notes[-1] == "requirements.txt does not list dvc[s3], which runs it: it is added"


def test_extras_and_groups_of_a_project(tmp_path: Path) -> None:
    files = codeset(tmp_path, pyproject_DOT_toml=PROJECT)
    assert find(files).requirements == ("mlflow>=2", "six")
    environment = find(files, extras=("train-it",), groups=("plots",))
    assert environment.requirements == ("altair", "mlflow>=2", "rich", "six", "torch")
    assert environment.python == ">=3.9"
    assert "--group plots --requirements pyproject.toml --extra train-it" in " ".join(environment.arguments)


def test_a_project_with_a_build_backend_is_installed_itself(tmp_path: Path) -> None:
    files = codeset(tmp_path, pyproject_DOT_toml=PROJECT + '[build-system]\nrequires = []\nbuild-backend = "mine"\n', mine_DOT_py="")
    environment = find(files, extras=("train-it",))
    assert (environment.text, environment.own()) == (".[train-it]\n", ["."])
    before = environment.key()
    codeset(tmp_path, mine_DOT_py="changed = True")
    assert find(files, extras=("train-it",)).key() != before


@pytest.mark.parametrize(
    ("text", "parts", "message"),
    [
        (PROJECT, {"extras": ("no",)}, "pyproject.toml: project.optional-dependencies: there is no extra 'no'; the extras are: Train_It"),
        (PROJECT, {"groups": ("no",)}, "pyproject.toml: dependency-groups: there is no group 'no'; the groups are: base, plots"),
        (POETRY, {"groups": ("no",)}, "pyproject.toml: there is no group 'no'; the groups are: dev, gpu, plots"),
        (POETRY, {"extras": ("no",)}, "pyproject.toml: there is no extra 'no'; the extras are: train"),
        ("[project", {}, "pyproject.toml: Expected ']'"),
        (
            "[project]\ndependencies=[]\nrequires-python='>=2.7,<3'",
            {},
            "pyproject.toml: project.requires-python: Python >=2.7,<3 is not supported",
        ),
        (POETRY.replace("^2.9", "two"), {}, "pyproject.toml: "),
    ],
)
def test_an_invalid_project_is_explained_by_table(text: str, parts: dict[str, tuple[str, ...]], message: str, tmp_path: Path) -> None:
    with pytest.raises(sdk.StepError) as raised:
        find(codeset(tmp_path, pyproject_DOT_toml=text), "", **parts)
    assert message in str(raised.value)


def test_extras_need_a_project(tmp_path: Path) -> None:
    with pytest.raises(sdk.StepError, match=r"requirements.txt has no extras or groups: remove the inputs"):
        find(codeset(tmp_path, requirements_DOT_txt="six"), extras=("a",))


def test_tables_of_poetry_are_translated(tmp_path: Path) -> None:
    files = codeset(tmp_path, pyproject_DOT_toml=POETRY)
    environment = find(files)
    assert environment.requirements == ("altair", "mlflow<3.0,>=2.9", 'six<1.17,>=1.16; sys_platform == "linux"')
    assert environment.python == "<4.0,>=3.9"
    more = find(files, extras=("train",), groups=("gpu", "dev"))
    assert set(more.requirements) - set(environment.requirements) == {"torch", "cupy>=13", "pytest"}


def test_a_lock_of_poetry_pins_the_versions(tmp_path: Path) -> None:
    environment = find(codeset(tmp_path, pyproject_DOT_toml=POETRY, poetry_DOT_lock=POETRY_LOCK))
    assert (environment.source, environment.pins) == ("poetry.lock", ("six==1.16.0",))


def test_a_module_of_poetry_is_installed(tmp_path: Path) -> None:
    assert find(codeset(tmp_path, pyproject_DOT_toml=POETRY, src__mine__init_DOT_py="")).own() == ["."]


def test_a_pipfile_is_translated(tmp_path: Path) -> None:
    environment = find(codeset(tmp_path, Pipfile=PIPFILE, own__setup_DOT_py=""))
    assert environment.python == "==3.11.*"
    assert environment.requirements == (
        "mlflow",
        "other @ git+https://example.com/other.git@v1",
        "own @ ./own",
        "six==1.16.0",
        'torch[opt-einsum]>=2; sys_platform == "linux"',
    )
    assert environment.contents[0].startswith("own ")
    assert "pytest" in find(checkout.Folder(tmp_path), groups=("dev",)).requirements


def test_a_lock_of_pipenv_has_exact_versions_with_hashes(tmp_path: Path) -> None:
    environment = find(codeset(tmp_path, Pipfile=PIPFILE, Pipfile_DOT_lock=PIPFILE_LOCK))
    assert environment.requirements == ('mlflow==2.9.2; python_version >= "3.8" --hash=sha256:aa',)


NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
VERSIONS = st.sampled_from(["*", "==1.0", ">=1,<2", "~=1.4", "1.5"])
TABLES = st.fixed_dictionaries(
    {"version": VERSIONS},
    optional={
        "extras": st.lists(NAMES, max_size=2),
        "markers": st.sampled_from(["python_version >= '3.8'", "os_name == 'nt' or os_name == 'posix'"]),
        "sys_platform": st.sampled_from(["== 'linux'", "!= 'win32'"]),
        "hashes": st.lists(st.sampled_from(["sha256:aa", "sha256:bb"]), max_size=2),
        "index": st.just("pypi"),
    },
)


@given(NAMES, st.one_of(VERSIONS, TABLES))
def test_every_package_of_a_pipfile_is_a_requirement_of_its_name_and_version(name: str, value: object) -> None:
    line = pipfile.requirement(name, value, "Pipfile")
    parsed = packaging.requirements.Requirement(requirements.bare(line))
    version = value["version"] if isinstance(value, dict) else value
    assert parsed.name == name
    assert str(parsed.specifier) == (
        "" if version == "*" else "==1.5" if version == "1.5" else ",".join(sorted(str(version).split(","), reverse=False))
    )
    if isinstance(value, dict):
        assert parsed.extras == set(value.get("extras", []))
        assert (parsed.marker is not None) == bool({"markers", "sys_platform"} & set(value))


def test_an_unknown_field_of_a_pipfile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(sdk.StepError, match=r"Pipfile: packages.six: 'verison' is not a field of a package"):
        find(codeset(tmp_path, Pipfile="[packages]\nsix = {verison = '1'}\n"))


def test_a_lock_of_uv_is_synchronised(tmp_path: Path) -> None:
    environment = find(codeset(tmp_path, uv_DOT_lock="", pyproject_DOT_toml=PROJECT), groups=("plots",))
    assert environment.locked
    assert environment.arguments == ("sync", "--inexact", "--frozen", "--no-editable", "--no-dev", "--group", "plots")
    assert environment.requirements == ("mlflow==2.9.2", 'six==1.16.0; sys_platform == "linux"')


def test_a_pylock_names_what_it_installs(tmp_path: Path) -> None:
    environment = find(codeset(tmp_path, pylock_DOT_toml=PYLOCK))
    assert (environment.requirements, environment.own(), environment.python) == (("six==1.16.0",), ["own"], ">=3.9")
    assert (environment.locked, environment.additions) == (True, ("mlflow",))


def test_setup_files(tmp_path: Path) -> None:
    environment = find(codeset(tmp_path, setup_DOT_cfg=SETUP_CFG), extras=("train",))
    assert (environment.requirements, environment.python) == (("mlflow", "six>1", "torch"), ">=3.9")
    assert find(codeset(tmp_path, setup_DOT_py=""), extras=("train",)).text == ".[train]\n"


@pytest.mark.parametrize(
    ("files", "python"),
    [
        ({"requirements_DOT_txt": "six", "_DOT_python-version": "3.10\n"}, "==3.10.*"),
        ({"pyproject_DOT_toml": PROJECT, "_DOT_python-version": "3.10.2\n"}, "==3.10.2"),
        ({"python_env_DOT_yaml": 'python: "3.12"', "_DOT_python-version": "3.10\n"}, "==3.12.*"),
        ({"requirements_DOT_txt": "six", "_DOT_python-version": "mine\n"}, ""),
    ],
)
def test_a_version_file_decides_where_the_file_leaves_the_version_open(files: dict[str, str], python: str, tmp_path: Path) -> None:
    assert find(codeset(tmp_path, **files)).python == python


@pytest.mark.parametrize("name", ["uv.toml", "sub/uv.toml", "sub/train/uv.toml"])
def test_settings_of_uv_in_the_folders_above_a_file_are_part_of_its_key(name: str, tmp_path: Path) -> None:
    files = codeset(tmp_path, sub__train__pyproject_DOT_toml=PROJECT)
    before = find(files, "sub/train/pyproject.toml").key()
    (tmp_path / name).write_text("prerelease = 'allow'")
    assert find(files, "sub/train/pyproject.toml").key() != before


def test_a_file_in_a_folder_may_name_other_folders_of_the_codeset(tmp_path: Path) -> None:
    files = codeset(tmp_path, train__Pipfile='[packages]\nlib = {path = "../lib"}\n', lib__setup_DOT_py="")
    assert find(files, "train/Pipfile").contents
    with pytest.raises(sdk.StepError, match="is outside the codeset"):
        find(codeset(tmp_path, train__Pipfile='[packages]\nlib = {path = "../../lib"}\n'), "train/Pipfile")


def test_a_source_of_a_pipfile_that_the_index_of_the_installation_replaces_is_noted(tmp_path: Path) -> None:
    notes = find(codeset(tmp_path, Pipfile=PIPFILE, own__setup_DOT_py="")).notes
    assert any("the URL of the source 'pypi' is not used" in note for note in notes)
    assert not any("packages.example" in note for note in notes), "a URL may hold a password"


def test_settings_of_uv_in_the_codeset_are_part_of_the_key(tmp_path: Path) -> None:
    before = find(codeset(tmp_path, requirements_DOT_txt="six")).key()
    after = find(codeset(tmp_path, pyproject_DOT_toml='[tool.uv]\nprerelease = "allow"\n')).key()
    assert before != after
    assert find(codeset(tmp_path, uv_DOT_toml="")).key() != after


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("python: 3.10", 'python_env.yaml: python: write the version in quotes, as in python: "3.11"'),
        ('python: "new"', "python_env.yaml: python: 'new' is not a Python version"),
        ("dependencies: numpy", "python_env.yaml: dependencies: must be a list"),
        ("dependency: [numpy]", "python_env.yaml: dependency: is not a key of a python_env file"),
        ("dependencies: [3]", "python_env.yaml: dependencies: '3' must be text"),
        ("dependencies: ['-r a.txt']", "python_env.yaml: dependencies: '-r a.txt': there is no file 'a.txt'"),
    ],
)
def test_an_invalid_python_env_is_explained_by_key(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(sdk.StepError) as raised:
        find(codeset(tmp_path, python_env_DOT_yaml=text))
    assert message in str(raised.value)


def test_the_documentation_lists_the_files_in_their_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
    table = page.partition("<!-- files -->")[2].partition("<!-- /files -->")[0]
    listed = [name.strip(" `") for row in table.splitlines() if row.startswith("| `") for name in row.split("|")[1].split(",")]
    assert [name for name in listed if name != "MLproject"] == list(ORDER)
