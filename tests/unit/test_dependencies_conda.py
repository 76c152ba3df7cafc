"""Conda files: packages go by their names on the index, and a name without a known counterpart is never installed."""

from __future__ import annotations

from pathlib import Path

import packaging.requirements
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.steps import sdk
from fuseml.steps.dependencies import checkout, conda, conda_names, requirements
from infra import conda_names as writer


def read(text: str, tmp_path: Path = Path()) -> requirements.Environment:
    return conda.parse("conda.yaml", yaml.safe_load(text), checkout.Folder(tmp_path))


@pytest.mark.parametrize(
    ("written", "python"),
    [
        ("numpy=1.26", "numpy==1.26.*"),
        ("numpy=1.26.*", "numpy==1.26.*"),
        ("numpy==1.26.4", "numpy==1.26.4"),
        ("numpy=1.26.4=py311h64a7726_0", "numpy==1.26.4"),
        ("numpy 1.26.4 py311_0", "numpy==1.26.4"),
        ("numpy 1.8*", "numpy==1.8.*"),
        ("numpy>=1.2, <2", "numpy<2,>=1.2"),
        ("numpy >=1.2.*", "numpy>=1.2"),
        ("numpy[version='>=1.2,<2']", "numpy<2,>=1.2"),
        ("numpy=*", "numpy"),
        ("conda-forge::NumPy", "numpy"),
        ("pytorch::pytorch=2.1=py3.11_cuda11.8_cudnn8.7.0_0", "torch==2.1"),
        ("pytorch-cpu", "torch"),
        ("pytables", "tables"),
        ("opencv=4.8", "opencv-python-headless==4.8.*"),
        ("tensorflow-gpu=2.15", "tensorflow==2.15.*"),
        ("python-graphviz", "graphviz"),
        ("dask", "dask[complete]"),
        ("ray-tune>=2", "ray[tune]>=2"),
        ("msgpack-python", "msgpack"),
    ],
)
def test_conda_packages_become_packages_of_the_index_and_are_noted(written: str, python: str) -> None:
    environment = read(f"dependencies: [python=3.11, {written!r}]")
    assert environment.requirements == (python,)
    assert environment.python == "==3.11.*"
    assert "instead of conda" in environment.notes[0]


@pytest.mark.parametrize(
    "name",
    [
        "cudatoolkit=11.8",
        "_libgcc_mutex=0.1",
        "_openmp_mutex",
        "libprotobuf",
        "graphviz",
        "pytorch-cuda=12.1",
        "mkl",
        "r-base",
        "ca-certificates",
    ],
)
def test_what_is_no_python_package_is_left_out_and_noted(name: str) -> None:
    environment = read(f"dependencies: [numpy, {name}]")
    assert environment.requirements == ("numpy",)
    assert f"left out, because they are no Python packages: {name.partition('=')[0]}" in environment.notes[-1]


def test_the_file_chooses_the_builds_for_the_processor() -> None:
    environment = read("dependencies: [pytorch, cpuonly]")
    assert (environment.requirements, environment.accelerator) == (("torch",), "cpu")


@pytest.mark.parametrize("name", ["our-own-tools", "sherlock-holmes=2", "torch"])
def test_a_name_without_a_known_counterpart_is_refused(name: str) -> None:
    with pytest.raises(sdk.StepError) as raised:
        read(f"dependencies: [{name}]")
    package = name.partition("=")[0]
    assert f"conda.yaml: dependencies: '{name}': the conda package {package} has no known counterpart" in str(raised.value)
    assert "under 'pip:'" in str(raised.value)


TABLES = [conda_names.parsed(writer.TABLE.with_name(file).read_text()) for file in ("conda_names.txt", "conda_added.txt")]


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True))
def test_only_names_of_the_tables_are_ever_installed(name: str) -> None:
    counterpart = conda_names.counterpart(name)
    assert not counterpart or counterpart in [table.get(name) for table in TABLES]


def test_every_name_of_the_tables_is_a_requirement() -> None:
    for table in TABLES:
        assert [name for name, index in table.items() if index and not packaging.requirements.Requirement(index).name] == []
    assert len(TABLES[0]) > 10_000


def test_the_table_is_written_from_the_mapping() -> None:
    def entry(conda: str, index: str, source: str = "regro-bot") -> dict[str, str]:
        return {"conda_name": conda, "pypi_name": index, "mapping_source": source}

    text = writer.table(
        [
            entry("typing_extensions", "typing-extensions"),
            entry("pytorch", "pytorch"),
            entry("pytorch", "torch", "static"),
            entry("vcversioner", "33162c0a7b28a4d8c83da07bc2b12cee58c120b4a9e8bba31c41c8d35a16"),
            entry("dask-core", "dask"),
        ]
    )
    assert conda_names.parsed(text) == {"dask-core": "dask", "pytorch": "torch", "typing_extensions": "typing_extensions"}


def test_lines_for_pip_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "more.txt").write_text("six\n")
    data = {"dependencies": ["numpy", {"pip": ["-r more.txt", "mlflow>=2"]}]}
    environment = conda.parse("envs/conda.yaml", data, checkout.Folder(tmp_path))
    assert environment.requirements == ("mlflow>=2", "numpy", "six")
    assert (environment.folder, environment.text) == ("envs", "numpy\n-r more.txt\nmlflow>=2\n")


@pytest.mark.parametrize(
    "written",
    ["acme::requests", "https://packages.example/acme::requests=2", "requests[channel=acme]", "requests[version='2',channel='acme']"],
)
def test_a_package_of_another_channel_is_not_taken_by_its_name(written: str) -> None:
    with pytest.raises(sdk.StepError, match="may name another project than the Python package index"):
        read(f'dependencies: ["{written}"]')


@pytest.mark.parametrize(
    "written", ["conda-forge::six", "conda-forge/linux-64::six", "six[channel=conda-forge]", "https://repo.anaconda.com/pkgs/main::six"]
)
def test_a_package_of_a_known_channel_is_taken_from_the_index(written: str) -> None:
    assert read(f'dependencies: ["{written}"]').requirements == ("six",)


def test_unused_channels_and_variables_are_noted() -> None:
    notes = read("channels: [mine, defaults]\nvariables: {A: b}\ndependencies: []").notes
    assert "'mine' is not used" in notes[0]
    assert "variables are not set" in notes[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dependencies: [{npm: [a]}]", "conda.yaml: dependencies: only 'pip' may hold a list, not 'npm'"),
        ("dependencies: ['a&b']", "conda.yaml: dependencies: 'a&b': '&b' is not a version of Python's kind"),
        ("dependencies: ['&b']", "conda.yaml: dependencies: '&b': cannot be read"),
        ("dependencies: ['numpy 1.2|1.3']", "conda.yaml: dependencies: 'numpy 1.2|1.3': alternatives of versions cannot be read"),
        ("dependencies: {a: b}", "conda.yaml: dependencies: must be a list"),
        ("dependencies: [python=3.7]", "conda.yaml: dependencies: python: Python ==3.7.* is not supported"),
    ],
)
def test_an_invalid_file_is_explained_by_file_and_key(text: str, message: str) -> None:
    with pytest.raises(sdk.StepError) as raised:
        read(text)
    assert message in str(raised.value)


def test_micromamba_gets_the_file_untranslated(tmp_path: Path) -> None:
    data = {"channels": ["conda-forge"], "dependencies": ["our-own-tools=1", {"pip": ["mlflow==2.9"]}]}
    environment = conda.for_micromamba("conda.yaml", data, checkout.Folder(tmp_path))
    assert environment.locked
    assert environment.requirements == ("mlflow==2.9",)
    with pytest.raises(sdk.StepError, match=r"Python ==3\.7\.\* is not supported"):
        conda.for_micromamba("conda.yaml", {"dependencies": ["python=3.7"]}, checkout.Folder(tmp_path))
    assert set(environment.opaque) == {"conda our-own-tools=1", "channel conda-forge"}
