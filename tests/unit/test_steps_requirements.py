"""Dependency files: three formats, one normalised environment, one key for one content, and the unmet requirements of an environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import requirements, sdk


def missing(name: str) -> str:
    raise sdk.StepError(f"there is no file {name}")


def parse(name: str, text: str, **others: str) -> requirements.Environment:
    files = {key.replace("_", "."): value for key, value in others.items()}
    return requirements.parse(name, text, lambda file: files[file] if file in files else missing(file))


def test_the_three_formats_are_equivalent() -> None:
    plain = parse("requirements.txt", "mlflow>=3.17\nscikit-learn==1.9.1\n")
    python_env = parse("python_env.yaml", "dependencies: [scikit-learn==1.9.1, mlflow>=3.17]\nbuild_dependencies: [pip]")
    conda = parse("conda.yaml", "channels: [conda-forge]\ndependencies: [pip, scikit-learn==1.9.1, {pip: [mlflow>=3.17]}]")
    assert plain.requirements == python_env.requirements == conda.requirements == ("mlflow>=3.17", "scikit-learn==1.9.1")
    assert plain.key() == python_env.key() == conda.key()


LINES = ["Scikit_Learn == 1.9.1", "mlflow[auth]>=3.17,<4", 'tomli; python_version < "3.11"', "--find-links wheels"]


@given(st.permutations(LINES), st.lists(st.sampled_from(["", "  # a comment", "\t"]), max_size=3))
def test_order_comments_and_duplicates_do_not_change_the_key(lines: list[str], noise: list[str]) -> None:
    reference = parse("requirements.txt", "\n".join(LINES))
    assert parse("requirements.txt", "\n".join([*noise, *lines, lines[0] + "  # again"])).key() == reference.key()


@pytest.mark.parametrize("changed", ["mlflow==3.17.1", "mlflow==3.17.2\nnumpy", "--pre\nmlflow==3.17.2", "mlflow==3.17.2\n-c limits"])
def test_another_content_has_another_key(changed: str) -> None:
    first, second = parse("requirements.txt", "mlflow==3.17.2"), parse("requirements.txt", changed, limits="numpy<3")
    assert first.key() != second.key()
    assert first.key(index="a") != first.key(index="b")


@pytest.mark.parametrize(
    ("conda", "python"),
    [
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy 1.26.4 py311_0", "numpy==1.26.4"),
        ("numpy 1.8*", "numpy==1.8.*"),
        ("numpy>=1.2, <2", "numpy<2,>=1.2"),
        ("numpy=*", "numpy"),
        ("conda-forge::NumPy", "numpy"),
    ],
)
def test_conda_requirements_are_read_as_python_requirements_and_noted(conda: str, python: str) -> None:
    environment = parse("conda.yaml", f"dependencies: [python=3.11, {conda!r}]")
    assert environment.requirements == (python,)
    assert environment.python == "==3.11.*"
    assert "instead of conda" in environment.notes[0]


def test_unused_channels_and_variables_are_noted() -> None:
    notes = parse("conda.yaml", "channels: [pytorch, defaults]\nvariables: {A: b}\ndependencies: []").notes
    assert "'pytorch' is not used" in notes[0]
    assert "variables are not set" in notes[1]


@pytest.mark.parametrize(
    ("written", "specifier"), [("3.11", "==3.11.*"), ("3.11.4", "==3.11.4"), (">=3.10,<3.13", "<3.13,>=3.10"), ("3", "==3.*")]
)
def test_a_python_version_is_a_release_or_a_series(written: str, specifier: str) -> None:
    assert parse("python_env.yaml", f'python: "{written}"').python == specifier


def test_included_files_are_followed() -> None:
    environment = parse(
        "requirements.txt", "-r more.txt\n--constraint limits.txt", more_txt="b\n-r last.txt", last_txt="c", limits_txt="c<2"
    )
    assert environment.requirements == ("b", "c")
    assert environment.constraints == ("c<2",)


def test_hashes_on_continued_lines_belong_to_their_requirement() -> None:
    environment = parse("requirements.txt", "a==1 \\\n  --hash=sha256:bb \\\n  --hash=sha256:aa\n")
    assert environment.requirements == ("a==1 --hash=sha256:aa --hash=sha256:bb",)
    assert environment.file() == "a==1 --hash=sha256:aa --hash=sha256:bb\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("python_env.yaml", "python: 3.10", 'python_env.yaml: python: write the version in quotes, as in python: "3.11"'),
        ("python_env.yaml", 'python: "new"', "python_env.yaml: python: 'new' is not a Python version"),
        ("python_env.yaml", "dependencies: numpy", "python_env.yaml: dependencies: must be a list"),
        ("python_env.yaml", "dependency: [numpy]", "python_env.yaml: dependency: is not a key of a python_env file"),
        ("python_env.yaml", "dependencies: [3]", "python_env.yaml: dependencies: '3' must be text"),
        ("conda.yaml", "dependencies: [{npm: [a]}]", "conda.yaml: dependencies: only 'pip' may hold a list, not 'npm'"),
        ("conda.yaml", "dependencies: ['a|b']", "conda.yaml: dependencies: 'a|b' cannot be read"),
        ("requirements.txt", "numpy 1.2", "requirements.txt: 'numpy 1.2' is not a Python requirement; write it as name==version"),
        ("requirements.txt", "./mine", "a path of the checkout cannot be a requirement"),
        ("requirements.txt", "-e .", "the entry point runs in the checkout anyway"),
        ("requirements.txt", "-r a.txt", "there is no file a.txt"),
    ],
)
def test_an_invalid_file_is_explained_by_file_and_key(name: str, text: str, message: str) -> None:
    with pytest.raises(sdk.StepError) as raised:
        parse(name, text)
    assert message in str(raised.value)


def test_files_that_include_one_another_are_refused() -> None:
    with pytest.raises(sdk.StepError, match=r"'a.txt' includes itself"):
        parse("requirements.txt", "-r a.txt", a_txt="-r b.txt", b_txt="-r a.txt")


INSTALLED: dict[str, tuple[str, list[str]]] = {
    "scikit-learn": ("1.9.1", []),
    "mlflow": ("3.17.2", ['flask-wtf>=1; extra == "auth"', "alembic"]),
    "nightly": ("2.0.dev3", []),
}


@pytest.mark.parametrize(
    ("text", "unmet"),
    [
        ("scikit-learn>=1.7,<2\nmlflow", []),
        ("scikit-learn>=2", ["scikit-learn>=2 (installed is 1.9.1)"]),
        ("torch==2.9", ["torch==2.9 (not installed)"]),
        ('torch; python_version < "3"', []),
        ("nightly>=1", []),
        ("mlflow[auth]", ['flask-wtf>=1; extra == "auth" (not installed)']),
        ("mlflow @ https://a.example/mlflow.whl", ["mlflow@ https://a.example/mlflow.whl (installed is 3.17.2 of unknown origin)"]),
        ("mlflow==3.17.2 --hash=sha256:aa", []),
        ("mlflow\n-c limits.txt", ["scikit-learn<1.9 (installed is 1.9.1)"]),
    ],
)
def test_unmet_requirements_of_an_environment_are_listed(text: str, unmet: list[str]) -> None:
    environment = parse("requirements.txt", text, limits_txt="scikit-learn<1.9\nabsent<3")
    phrases = requirements.unmet(environment, "3.11.9", INSTALLED.get)
    assert [phrase.replace(" @", "@") for phrase in phrases] == unmet


def test_another_python_version_is_unmet() -> None:
    environment = parse("python_env.yaml", 'python: "3.12"')
    assert requirements.unmet(environment, "3.11.9", INSTALLED.get) == ["Python ==3.12.* (this is 3.11.9)"]
    assert requirements.unmet(environment, "3.12.1", INSTALLED.get) == []
