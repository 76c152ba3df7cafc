"""Requirements files: the outline follows includes, equal contents have one key, and unmet requirements are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import sdk
from fuseml.steps.dependencies import checkout, requirements, satisfaction


class Memory:
    """Files in memory."""

    above = 0

    def __init__(self, **files: str) -> None:
        self.files = {name.replace("__", "/").replace("_", "."): text for name, text in files.items()}

    def names(self) -> list[str]:
        return sorted(self.files)

    def has(self, path: str) -> bool:
        return path in self.files or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        return path == "." or any(name.startswith(f"{path}/") for name in self.files)

    def read(self, path: str) -> str:
        return self.files[path]

    def digest(self, path: str) -> str:
        return str(hash(str([(name, text) for name, text in self.files.items() if path in (".", name) or name.startswith(f"{path}/")])))


def read(text: str, **others: str) -> requirements.Environment:
    return requirements.of_file("requirements.txt", Memory(requirements_txt=text, **others))


LINES = ["Scikit_Learn == 1.9.1", "mlflow[auth]>=3.17,<4", 'tomli; python_version < "3.11"', "--find-links wheels", "-e ./mine"]


@given(st.permutations(LINES), st.lists(st.sampled_from(["", "  # a comment", "\t"]), max_size=3))
def test_order_comments_and_duplicates_do_not_change_the_key(lines: list[str], noise: list[str]) -> None:
    reference = read("\n".join(LINES))
    assert read("\n".join([*noise, *lines, lines[0] + "  # again"])).key() == reference.key()


@pytest.mark.parametrize(
    "changed",
    [
        "mlflow==3.17.1",
        "mlflow==3.17.2\nnumpy",
        "--pre\nmlflow==3.17.2",
        "mlflow==3.17.2\n-c limits",
        "mlflow==3.17.2\n./mine",
        "mlflow @ ./a.whl",
    ],
)
def test_another_content_has_another_key(changed: str) -> None:
    first, second = read("mlflow==3.17.2"), read(changed, limits="numpy<3", mine__setup_py="a")
    assert first.key() != second.key()
    assert first.key(index="a") != first.key(index="b")


@pytest.mark.parametrize(
    "line", ["-e .", "-e.", "--editable=.", ".", "./", "mine @ file:.", "-e .[extra]", "-e .#egg=mine", "--find-links mine", "-f mine"]
)
def test_the_content_of_what_the_codeset_installs_itself_is_in_the_key(line: str) -> None:
    before = read(line, setup_py="a", mine__a_whl="a")
    assert before.contents
    assert before.key() != read(line, setup_py="b", mine__a_whl="b").key()


def test_included_files_are_followed_relative_to_the_including_file() -> None:
    environment = read(
        "-r req/more.txt\n--constraint=limits.txt",
        req__more_txt="b\n-rlast.txt",
        req__last_txt="c",
        limits_txt="c<2\n-r more.txt",
        more_txt="d",
    )
    assert environment.requirements == ("b", "c")
    assert environment.constraints == ("c<2", "d")
    assert environment.arguments[-2:] == ("--requirements", "requirements.txt")


def test_hashes_on_continued_lines_belong_to_their_requirement() -> None:
    environment = read("a==1 \\\n  --hash=sha256:bb \\\n  --hash=sha256:aa\n")
    assert environment.requirements == ("a==1 --hash=sha256:aa --hash=sha256:bb",)
    assert environment.names() == {"a"}


@pytest.mark.parametrize(
    "line",
    [
        "git+https://example.com/a.git@v1#egg=a",
        "https://example.com/a-1-py3-none-any.whl",
        "numpy 1.2",
        "${WHEELS}/a.whl",
        "./a.whl --config-settings x=y",
    ],
)
def test_a_line_that_only_uv_can_read_is_left_to_it(line: str) -> None:
    environment = read(f"six\n{line}\n")
    assert (environment.requirements, environment.own()) == (("six",), [line])


def test_an_editable_requirement_is_installed_as_a_copy_and_noted() -> None:
    assert "'-e ./mine' is installed as a copy" in read("-e ./mine", mine__setup_py="").notes[0]
    assert "--no-editable" in read("-e ./mine", mine__setup_py="").arguments


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "-r a.txt",
            "requirements.txt: '-r a.txt': there is no file 'a.txt' in the codeset; the path is relative to the file that includes it",
        ),
        ("-r ../a.txt", "requirements.txt: '../a.txt' is outside the codeset"),
        ("-e ../other", "requirements.txt: '../other' is outside the codeset"),
        ("/etc/a.whl", "requirements.txt: '/etc/a.whl' is outside the codeset"),
        ("-r b.txt", "b.txt: '-r requirements.txt': the file includes itself; remove this line"),
    ],
)
def test_an_include_that_cannot_be_followed_is_explained_by_file_and_line(text: str, message: str) -> None:
    with pytest.raises(sdk.StepError) as raised:
        read(text, b_txt="-r requirements.txt")
    assert message in str(raised.value)


def test_a_step_in_a_folder_reads_files_of_the_whole_codeset_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEML_ENV_FOLDER", "services/churn")
    root, folder = tmp_path / "code", tmp_path / "code" / "services" / "churn"
    folder.mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("rich\n")
    (root / "shared.txt").write_text("six\n")
    (folder / "requirements.txt").write_text("-r ../../shared.txt\n")
    assert requirements.of_file("requirements.txt", checkout.Folder(folder)).requirements == ("six",)
    (folder / "requirements.txt").write_text("-r ../../../outside.txt\n")
    with pytest.raises(sdk.StepError, match=r"'../../../outside.txt' is outside the codeset"):
        requirements.of_file("requirements.txt", checkout.Folder(folder))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_in_any_marked_encoding_is_read(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes("six  # für alle\n".encode(encoding))
    assert requirements.of_file("requirements.txt", checkout.Folder(tmp_path)).requirements == ("six",)


def test_a_file_in_another_encoding_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_bytes("six\nnumpy  # für alle\n".encode("latin-1"))
    with pytest.raises(sdk.StepError, match=r"requirements.txt: line 2: is not UTF-8 text; save the file as UTF-8"):
        requirements.of_file("requirements.txt", checkout.Folder(tmp_path))


def test_results_of_builds_are_no_content(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("")
    before = checkout.Folder(tmp_path).digest(".")
    for name in (".git", "build", "a.egg-info", "__pycache__", ".venv"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("")
    assert checkout.Folder(tmp_path).digest(".") == before
    for name in ("a.py", "src/build/steps.py", "src/dist/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
        assert checkout.Folder(tmp_path).digest(".") != before
        before = checkout.Folder(tmp_path).digest(".")


INSTALLED: dict[str, tuple[str, list[str]]] = {
    "scikit-learn": ("1.9.1", []),
    "mlflow": ("3.17.2", ['flask-wtf>=1; extra == "auth"', "alembic"]),
    "nightly": ("2.0.dev3", []),
}


@pytest.mark.parametrize(
    ("text", "unmet"),
    [
        ("scikit-learn>=1.7,<2\nmlflow", []),
        ("-i https://example.com\n--pre\nmlflow", []),
        ("scikit-learn>=2", ["scikit-learn>=2 (installed is 1.9.1)"]),
        ("torch==2.9", ["torch==2.9 (not installed)"]),
        ('torch; python_version < "3"', []),
        ("nightly>=1", []),
        ("mlflow[auth]", ['flask-wtf>=1; extra == "auth" (not installed)']),
        ("mlflow @ https://a.example/mlflow.whl", ["mlflow@ https://a.example/mlflow.whl (installed is 3.17.2 of unknown origin)"]),
        ("mlflow==3.17.2 --hash=sha256:aa", []),
        ("mlflow\n-c limits.txt", ["scikit-learn<1.9 (installed is 1.9.1)"]),
        ("-e .", ["'.' (it needs an environment of its own)"]),
    ],
)
def test_unmet_requirements_of_an_environment_are_listed(text: str, unmet: list[str]) -> None:
    environment = read(text, limits_txt="scikit-learn<1.9\nabsent<3")
    phrases = satisfaction.unmet(environment, "3.11.9", INSTALLED.get)
    assert [phrase.replace(" @", "@") for phrase in phrases] == unmet


def test_another_python_version_is_unmet() -> None:
    environment = requirements.Environment("a", python="==3.12.*")
    assert satisfaction.unmet(environment, "3.11.9", INSTALLED.get) == ["Python ==3.12.* (this is 3.11.9)"]
    assert satisfaction.unmet(environment, "3.12.1", INSTALLED.get) == []
