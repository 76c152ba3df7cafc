"""Dockerfiles: their syntax, words with variables, configuration of an image, and patterns of files to leave out."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import layers, sdk
from fuseml.steps.dockerfiles import ignoring, recipe, stages, syntax
from fuseml.steps.dockerfiles.context import Context


def built(text: str, **config: Any) -> recipe.Image:
    return recipe.image(syntax.parse(text), {"config": config})


def config(text: str, **base: Any) -> dict[str, Any]:
    return built(f"FROM base\n{text}\n", **base).config


# Syntax


def test_instructions_have_their_lines_flags_and_continuations() -> None:
    text = (
        "\ufeff# escape=\\\n# a comment\r\nARG TAG=1 # no comment\nfrom base:$TAG as one\n\n"
        'COPY --chown=1:2 --link a \\\n # between\n\n  b/ \nCMD ["run",\\\n"fast"]\nLABEL a=b\\\\\nUSER ada'
    )
    found = syntax.parse(text).instructions
    assert [(item.line, item.keyword, item.text, dict(item.flags)) for item in found] == [
        (3, "ARG", "TAG=1 # no comment", {}),
        (4, "FROM", "base:$TAG as one", {}),
        (6, "COPY", "a   b/", {"chown": "1:2", "link": ""}),
        (10, "CMD", '["run","fast"]', {}),
        (12, "LABEL", "a=b\\\\", {}),
        (13, "USER", "ada", {}),
    ]
    assert found[3].listed == ["run", "fast"]


def test_the_escape_character_may_be_a_backtick() -> None:
    dockerfile = syntax.parse("# syntax=docker/dockerfile:1\n# escape=`\nFROM base\nCOPY a `\n c:\\b\\\n")
    assert [item.text for item in dockerfile.instructions] == ["base", "a  c:\\b\\"]


def test_here_documents_are_no_instructions() -> None:
    dockerfile = syntax.parse("FROM base\nRUN <<EOF cat <<-'B' > f\nRUN no\nEOF\n\tCOPY no\n\tB\nUSER ada\n")
    assert [(item.keyword, item.heredoc) for item in dockerfile.instructions] == [("FROM", False), ("RUN", True), ("USER", False)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Dockerfile has no FROM"),
        ("# only a comment\nARG A=1\n", "Dockerfile has no FROM"),
        ("USER ada\nFROM base\n", "USER in line 1 stands before the first FROM"),
        ("FROM base\nCOPPY a b\n", "Dockerfile, line 2: 'COPPY' is no instruction"),
        ("FROM base\n\n\nUSER\n", "Dockerfile, line 4: USER has no argument"),
        ("FROM base\nCOPY <<EOF /a\ntext\n", "here-document EOF of COPY in line 2 has no end"),
        ("# escape=x\nFROM base\n", "escape is 'x'"),
        ("FROM base\n" + "USER ada\n" * 1000, "more than 1000 instructions"),
    ],
)
def test_a_fault_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(sdk.StepError, match=re.escape(message)):
        syntax.parse(text)


@given(st.text(alphabet="FROM base\nCPY<E\\\t#='\"$${}[]`:-", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        dockerfile = syntax.parse(f"FROM base\n{text}")
        if not recipe.unsupported(dockerfile):
            recipe.image(dockerfile, {})
    except (sdk.StepError, syntax.UnsupportedError):
        pass


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"),
        ("$A-${B}", "1-"),
        ("${B:-x}${A:-x}${E:-x}${E-x}", "x1x"),
        ("${A:+set}${B:+set}${E:+set}${E+set}", "setset"),
        ("${B:-${A}y}", "1y"),
        ("'$A'", "$A"),
        ('"$A b"', "1 b"),
        (r"\$A \"q\"", '$A "q"'),
        (r'"a\b\$A"', r"a\b$A"),
        ("$", "$"),
        ("a$.b", "a$.b"),
    ],
)
def test_variables_are_expanded_as_in_a_shell(word: str, expected: str) -> None:
    assert syntax.expand(word, {"A": "1", "E": ""}) == expected


@pytest.mark.parametrize("word", ["${A:?no}", "${A#x}", "${A/a/b}", "${}", "${A", "${" * 30])
def test_other_modifiers_need_a_program(word: str) -> None:
    with pytest.raises(syntax.UnsupportedError):
        syntax.expand(word, {"A": "1"})


@given(st.dictionaries(st.from_regex(r"[A-Z]{1,5}", fullmatch=True), st.text(alphabet="ab $'\"\\{}", max_size=10)))
def test_a_value_is_inserted_as_it_is(variables: dict[str, str]) -> None:
    for name, value in variables.items():
        assert syntax.expand(f"<${{{name}}}>", variables) == f"<{value}>"


@given(st.lists(st.text(alphabet="ab\"' $\\", min_size=1, max_size=8), max_size=4))
def test_a_quoted_word_is_one_word_with_its_text(texts: list[str]) -> None:
    quoted = ["'" + text.replace("'", "'\"'\"'") + "'" for text in texts]
    assert [syntax.expand(word, {}) for word in syntax.words(" \t".join(quoted))] == texts


# The image


def test_the_configuration_is_that_of_the_base_with_the_instructions() -> None:
    found = config(
        """
        ENV A=1 B="two words" PATH=/opt/bin:$PATH
        ENV OLD form $A
        ARG C=$A-c
        LABEL version=$C team=red
        WORKDIR /srv
        WORKDIR app/../$A
        USER 1000:1000
        EXPOSE 8080 9000-9001/udp
        VOLUME ["/data", "/more"]
        STOPSIGNAL SIGINT
        ENTRYPOINT ["python", "main.py"]
        """,
        Env=["PATH=/bin", "LANG=C"],
        Labels={"version": "0", "base": "yes"},
        Cmd=["sh"],
        WorkingDir="/root",
    )
    assert found == {
        "Env": ["PATH=/opt/bin:/bin", "LANG=C", "A=1", "B=two words", "OLD=form 1"],
        "Labels": {"version": "1-c", "base": "yes", "team": "red"},
        "WorkingDir": "/srv/1",
        "User": "1000:1000",
        "ExposedPorts": {"8080/tcp": {}, "9000/udp": {}, "9001/udp": {}},
        "Volumes": {"/data": {}, "/more": {}},
        "StopSignal": "SIGINT",
        "Entrypoint": ["python", "main.py"],
    }


def test_a_program_in_shell_form_runs_in_the_shell() -> None:
    assert config("CMD run $A")["Cmd"] == ["/bin/sh", "-c", "run $A"]
    assert config('SHELL ["bash", "-ec"]\nCMD run')["Cmd"] == ["bash", "-ec", "run"]
    assert config('CMD first\nENTRYPOINT ["e"]')["Cmd"] == ["/bin/sh", "-c", "first"]
    assert config("CMD [not, json]")["Cmd"] == ["/bin/sh", "-c", "[not, json]"]


def test_arguments_before_the_base_are_for_the_base() -> None:
    text = "ARG TAG=3\nARG NAME=py:$TAG\nFROM --platform=$TARGETPLATFORM $NAME AS one\nENV A=$TAG\nARG TAG\nARG X\nENV B=$TAG C=$X\n"
    dockerfile = syntax.parse(text)
    assert stages.base(dockerfile) == "py:3"
    assert recipe.image(dockerfile, {}).config["Env"] == ["A=", "B=3", "C="]
    with pytest.raises(syntax.UnsupportedError, match="platform"):
        stages.base(syntax.parse("FROM --platform=plan9/mips py\n"))
    for faulty in ("FROM $NONE\n", "FROM a b\n"):
        with pytest.raises(sdk.StepError, match="is no base"):
            stages.base(syntax.parse(faulty))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("RUN make", "RUN in line 2"),
        ("ONBUILD USER ada", "ONBUILD in line 2"),
        ("FROM other", "several stages"),
        ("COPY <<EOF /a\nx\nEOF", "here-document"),
        ("COPY --from=one a b", "--from"),
        ("COPY --exclude=a . b", "--exclude"),
        ("ADD https://example.com/a /b", "fetches https://example.com/a"),
        ("ADD --checksum=sha256:1 a /b", "--checksum"),
        ("COPY --chown=ada a b", "owner by name"),
        ("COPY --chmod=u+x a b", "mode u+x"),
    ],
)
def test_what_needs_a_program_is_named(text: str, reason: str) -> None:
    dockerfile = syntax.parse(f"FROM base\n{text}\n")
    found = recipe.unsupported(dockerfile)
    if not found:
        with pytest.raises(syntax.UnsupportedError) as refused:
            recipe.image(dockerfile, {})
        found = str(refused.value)
    assert reason in found
    with pytest.raises(syntax.UnsupportedError, match="ONBUILD"):
        built("FROM base\n", OnBuild=["RUN make"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXPOSE 0", "'0' is no port"),
        ("EXPOSE 9-8", "'9-8' is no port"),
        ("COPY a", "has no target"),
        ("COPY a b c", "several sources need a folder: write 'c/'"),
        ("LABEL a", "has no value"),
        ("ENV a=1 b", "'b' is not NAME=VALUE"),
        ("ARG 1x=2", "no name of an argument"),
        ("SHELL bash", "write a list"),
    ],
)
def test_a_faulty_argument_is_refused(text: str, message: str) -> None:
    with pytest.raises(sdk.StepError, match=re.escape(message)) as refused:
        built(f"FROM base\n{text}\n")
    assert "in line 2" in str(refused.value)


# Files


def copied(root: Path, text: str, *folders: str) -> dict[str, tuple[str, int, int, int]]:
    image = built(f"FROM base\n{text}\n")
    found = Context(root, "Dockerfile").copied(image.copies, image.folders, lambda path: path in folders)
    return {path: (str(file.path.relative_to(root.resolve())), file.mode, file.user, file.group) for path, file in sorted(found.items())}


@pytest.fixture
def codeset(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    for name in ("run.sh", "src/a.py", "src/deep/b.py", "data/big.csv", ".git/HEAD", ".fuseml/_org", "notes.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "run.sh").chmod(0o700)
    (root / "src/link.py").symlink_to("a.py")
    return root


def paths(root: Path, text: str, *folders: str) -> list[str]:
    return list(copied(root, text, *folders))


def test_files_and_folders_go_where_docker_puts_them(codeset: Path) -> None:
    assert copied(codeset, "COPY run.sh /run") == {"/run": ("run.sh", 0o755, 0, 0)}
    assert paths(codeset, "COPY run.sh /bin", "/bin") == ["/bin/run.sh"]
    assert paths(codeset, "COPY run.sh /bin/") == ["/bin/run.sh"]
    assert paths(codeset, "WORKDIR /app\nCOPY run.sh .") == ["/app/run.sh"]
    assert paths(codeset, "WORKDIR /app\nCOPY run.sh /app") == ["/app/run.sh"]
    assert paths(codeset, "COPY src /app\nCOPY run.sh /app") == ["/app/a.py", "/app/deep/b.py", "/app/link.py", "/app/run.sh"]
    assert paths(codeset, "COPY src/* /app/") == ["/app/a.py", "/app/b.py", "/app/link.py"]
    assert paths(codeset, "COPY src/[ab].py *.md /app/") == ["/app/a.py", "/app/notes.md"]
    assert copied(codeset, "COPY --chown=5 --chmod=640 run.sh /run") == {"/run": ("run.sh", 0o640, 5, 5)}
    assert copied(codeset, "COPY src/a.py /x\nCOPY src/deep/b.py /x")["/x"][0] == "src/deep/b.py"


def test_the_whole_codeset_has_no_folders_of_the_checkout(codeset: Path) -> None:
    whole = ["/a/data/big.csv", "/a/notes.md", "/a/run.sh", "/a/src/a.py", "/a/src/deep/b.py", "/a/src/link.py"]
    assert paths(codeset, "COPY . /a") == whole
    (codeset / ".dockerignore").write_text("# comment\n*\n!src\nsrc/**/*.py\n!src/deep/b.py\n")
    assert paths(codeset, "COPY . /a") == ["/a/src/deep/b.py"]
    (codeset / "Dockerfile.dockerignore").write_text("src\n!./notes.md\n")
    assert "/a/src/a.py" not in paths(codeset, "COPY . /a")
    with pytest.raises(sdk.StepError, match=r"has no files in 'src' \(.dockerignore leaves files out\)"):
        paths(codeset, "COPY src /a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY ../secret /a", "'../secret' is outside the codeset"),
        ("COPY /etc/../../x /a", "outside the codeset"),
        ("COPY out /a", "'out' leads outside the codeset"),
        ("COPY .git/HEAD /a", "the codeset has no file '.git/HEAD'"),
        ("COPY missing /a", "the codeset has no file 'missing'"),
        ("COPY *.txt /a/", "no file of the codeset matches '*.txt'"),
        ("COPY x[b-a] /a/", "'[b-a]' is no class of characters"),
        ("COPY run.sh /a\nCOPY src /a", "makes /a both a file and a folder"),
    ],
)
def test_a_source_that_cannot_be_copied_is_refused(codeset: Path, text: str, message: str) -> None:
    (codeset.parent / "secret").write_text("secret")
    (codeset / "out").symlink_to("../secret")
    with pytest.raises(sdk.StepError, match=re.escape(message)):
        paths(codeset, text)


def test_a_link_that_leads_outside_is_copied_as_a_link(codeset: Path, tmp_path: Path) -> None:
    (codeset / "src/out").symlink_to("/etc/passwd")
    files = Context(codeset, "Dockerfile").copied(built("FROM base\nCOPY src /a\n").copies, set(), lambda _: False)
    assert files["/a/out"].path.is_symlink()
    with (tmp_path / "layer").open("wb") as file:
        assert layers.pack_files(files, file).blob.size < 2000


def test_an_archive_is_unpacked_by_a_program_only(codeset: Path) -> None:
    with tarfile.open(codeset / "data.tgz", "w:gz") as archive:
        archive.add(codeset / "run.sh")
    assert paths(codeset, "COPY data.tgz /a/") == ["/a/data.tgz"]
    with pytest.raises(syntax.UnsupportedError, match=r"ADD in line 2 unpacks data.tgz"):
        paths(codeset, "ADD data.tgz /a/")
    assert paths(codeset, "ADD run.sh /a/") == ["/a/run.sh"]


@given(st.lists(st.text(alphabet="ab*?[]!/-^\\.", min_size=1, max_size=8), max_size=5), st.text(alphabet="ab/.", min_size=1, max_size=12))
def test_any_pattern_is_a_rule_or_refused(lines: list[str], path: str) -> None:
    try:
        rules = ignoring.rules("\n".join(lines))
    except sdk.StepError:
        return
    assert ignoring.is_ignored(path, rules) in (True, False)
    assert ignoring.is_ignored(path, []) is False
    assert ignoring.is_ignored(f".git/{path}", rules)
