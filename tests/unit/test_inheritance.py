"""The variables of the server that reach steps, and the secrets and files that they name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.cli.settings import CliSettings
from fuseml.domain import errors
from fuseml.embedded import inheritance, step_options

PASSED = (
    *("PATH", "http_proxy", "HTTPS_PROXY", "all_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_CORP_PASSWORD", "TZ", "LANG", "LC_ALL"),
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
)
NOT_PASSED = (
    *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "SSH_AUTH_SOCK", "FUSEML_TOKEN", "KUBECONFIG", "LD_PRELOAD", "PYTHONPATH", "VIRTUAL_ENV"),
    *("BASH_ENV", "PIP_TARGET", "UV_CACHE_DIR", "UV_PYTHON", "XDG_CONFIG_HOME", "DISPLAY", "WANDB_API_KEY"),
)


def test_the_listed_variables_are_passed_on_and_no_others() -> None:
    environment = dict.fromkeys((*PASSED, *NOT_PASSED), "x")
    kept = inheritance.variables(environment, [], "127.0.0.1")
    assert set(kept) - {"NO_PROXY", "no_proxy"} == set(PASSED)
    assert "WANDB_API_KEY" in inheritance.variables(environment, ["WANDB_*"], "")
    assert "XDG_CONFIG_HOME" in inheritance.variables(environment, ["XDG_CONFIG_HOME"], "")


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({"http_proxy": "http://p"}, "127.0.0.1,localhost,::1,fuseml.corp"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a, .corp", "no_proxy": "b"}, "b,a,.corp,127.0.0.1,localhost,::1,fuseml.corp"),
        ({"NO_PROXY": "a"}, "a"),
        ({}, None),
    ],
)
def test_the_server_is_reached_without_the_proxy(given_: dict[str, str], expected: str | None) -> None:
    kept = inheritance.variables(given_, [], "fuseml.corp")
    assert kept.get("NO_PROXY") == expected
    if expected and expected != "a":
        assert kept.get("no_proxy") == expected


@given(user=st.from_regex(r"[a-z]{1,8}", fullmatch=True), password=st.from_regex(r"[A-Za-z0-9%._~-]{1,20}", fullmatch=True))
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HTTPS_PROXY", "http://{}@proxy:3128"),
        ("PIP_EXTRA_INDEX_URL", "https://one/packages https://{}@two/packages"),
        ("UV_INDEX", "corp=https://{}@two/packages?a=b,https://three"),
        ("UV_DEFAULT_INDEX", "https://{}@index/packages/"),
    ],
)
def test_passwords_in_addresses_are_secrets(name: str, text: str, user: str, password: str) -> None:
    assert password in inheritance.secrets({name: text.format(f"{user}:{password}")})


def test_values_whose_names_say_so_are_secrets() -> None:
    assert inheritance.secrets({"UV_INDEX_CORP_PASSWORD": "a1", "WANDB_API_KEY": "a2", "HF_TOKEN": "a3", "TZ": "UTC"}) == ["a1", "a2", "a3"]


def test_files_that_variables_name_are_found(tmp_path: Path) -> None:
    names = ["ca.pem", "wheels", "certs", "pip.conf"]
    for name in names:
        (tmp_path / name).touch()
    kept = {
        "SSL_CERT_FILE": f"{tmp_path}/ca.pem",
        "REQUESTS_CA_BUNDLE": f"{tmp_path}/missing",
        "PIP_FIND_LINKS": f"https://index {tmp_path}/wheels",
        "SSL_CERT_DIR": f"{tmp_path}/certs:relative",
        "PIP_CONFIG_FILE": f"{tmp_path}/pip.conf",
        "TZ": str(tmp_path),
    }
    assert {path.name for path in inheritance.files(kept)} == set(names)


def test_containers_get_the_variables_without_paths_of_this_machine() -> None:
    kept = dict.fromkeys(("PATH", "HOME", "SSL_CERT_FILE", "HTTP_PROXY", "TZ", "PIP_INDEX_URL", "PIP_CONFIG_FILE"), "x")
    assert inheritance.of_containers(kept) == ["HTTP_PROXY", "TZ", "PIP_INDEX_URL"]


def test_the_documentation_lists_the_variables() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operation.md").read_text()
    listed = re.findall(r"`([^`]+)`", page.partition("<!-- passed on -->")[2].partition("<!-- /passed on -->")[0])
    lists = (inheritance.PROCESS, inheritance.CERTIFICATES, inheritance.PACKAGES, inheritance.LOCALE, inheritance.ACCELERATORS)
    assert sorted(listed) == sorted(
        [*(name for name in inheritance.PROXIES if name.isupper()), *(name for names in lists for name in names)]
    )


def test_options_of_steps_are_read(tmp_path: Path) -> None:
    options = step_options.parse(paths=[f"{tmp_path}:rw"], variables=["HF_*"], log="10Mi", disk="0", confinement="off")
    assert (options.limits.log, options.limits.disk, options.confined, options.passed) == (10 << 20, 0, False, ("HF_*",))
    assert [(item.path, item.writable) for item in options.allowed] == [(tmp_path, True)]
    assert step_options.parse() == step_options.StepOptions()
    chosen = CliSettings.from_env({"FUSEML_DEVICES": " nvidia.com/gpu=0,1  amd.com/gpu= "}).devices
    assert step_options.parse(devices=chosen).devices == {"nvidia.com/gpu": ("0", "1"), "amd.com/gpu": ()}
    assert step_options.parse(devices=["shared"]).devices is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log": "lots"}, "FUSEML_STEP_LOG_LIMIT: 'lots' is not a quantity"),
        ({"disk": "-1"}, "FUSEML_STEP_DISK_LIMIT"),
        ({"confinement": "on"}, "FUSEML_STEP_CONFINEMENT is 'on'; set it to auto or off"),
        ({"variables": ["A=B"]}, "is not the name of a variable"),
        ({"paths": ["relative"]}, "give an absolute path"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(errors.InvalidError, match=message.replace("(", r"\(")):
        step_options.parse(**options)  # type: ignore[arg-type]
