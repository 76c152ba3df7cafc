"""The tools in a user's environment: MLflow's and the AWS SDKs' variables and files, with the precedence of those tools."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.probes import environment
from fuseml.probes.targets import Target

CANARY = "canary-5ecret"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIA1", "AWS_SECRET_ACCESS_KEY": CANARY}
CREDENTIALS = """\
[default]
aws_access_key_id = AKIAFILE
aws_secret_access_key = file-secret

[minio]
aws_access_key_id = minio
aws_secret_access_key = minio-secret
aws_session_token = minio-token
"""
CONFIG = """\
[default]
region = eu-central-1

[profile minio]
region = lab
endpoint_url = http://minio.lab:9000
s3 =
    addressing_style = path
"""


def test_an_empty_environment_has_no_tools() -> None:
    assert environment.find({}) == []


def test_mlflow_is_found_with_the_credentials_of_its_client() -> None:
    variables = {"MLFLOW_TRACKING_URI": "http://mlflow.lab", "MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": CANARY}
    [target] = environment.find({**variables, "PATH": "/bin"})
    assert target == Target("http://mlflow.lab", {}, {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": CANARY})


def test_mlflow_is_found_with_the_store_that_its_clients_use() -> None:
    variables = {**KEYS, "MLFLOW_TRACKING_URI": "http://mlflow.lab", "MLFLOW_S3_ENDPOINT_URL": "http://one:9000"}
    [tracking, store] = environment.find(variables)
    assert (tracking.credentials, tracking.configuration, tracking.store) == ({}, {}, store)
    assert store == Target("http://one:9000", {}, KEYS)


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "sqlite:///mlflow.db", "databricks", "databricks://prod", "http://", ""])
def test_a_tracking_uri_without_a_server_is_omitted(uri: str) -> None:
    assert environment.find({"MLFLOW_TRACKING_URI": uri}) == []


def test_every_s3_url_is_found_once_with_account_and_region() -> None:
    variables = {**KEYS, "AWS_DEFAULT_REGION": "lab", "MLFLOW_S3_ENDPOINT_URL": "http://one:9000", "AWS_ENDPOINT_URL": "http://two:9000"}
    assert environment.find(variables) == [
        Target("http://one:9000", {"AWS_DEFAULT_REGION": "lab"}, KEYS),
        Target("http://two:9000", {"AWS_DEFAULT_REGION": "lab"}, KEYS),
    ]
    assert len(environment.find({**variables, "AWS_ENDPOINT_URL": "http://one:9000"})) == 1


def test_the_url_for_s3_precedes_the_one_for_all_services() -> None:
    [target] = environment.find({"AWS_ENDPOINT_URL_S3": "http://s3:9000", "AWS_ENDPOINT_URL": "http://all:9000"})
    assert (target.url, target.credentials) == ("http://s3:9000", {})


def test_an_account_without_a_url_belongs_to_aws() -> None:
    [target] = environment.find({}, CREDENTIALS, CONFIG)
    assert target.url == "https://s3.eu-central-1.amazonaws.com"
    assert target.credentials == {"AWS_ACCESS_KEY_ID": "AKIAFILE", "AWS_SECRET_ACCESS_KEY": "file-secret"}
    assert environment.find(KEYS)[0].url == "https://s3.us-east-1.amazonaws.com"


def test_a_profile_has_url_region_and_token() -> None:
    [target] = environment.find({"AWS_PROFILE": "minio"}, CREDENTIALS, CONFIG)
    account = {"AWS_ACCESS_KEY_ID": "minio", "AWS_SECRET_ACCESS_KEY": "minio-secret", "AWS_SESSION_TOKEN": "minio-token"}
    assert target == Target("http://minio.lab:9000", {"AWS_DEFAULT_REGION": "lab"}, account)
    assert environment.find({"AWS_PROFILE": "unknown"}, CREDENTIALS, CONFIG) == []


def test_all_keys_of_an_account_come_from_one_source() -> None:
    [target] = environment.find({"AWS_PROFILE": "minio", **KEYS}, CREDENTIALS, CONFIG)
    assert target.credentials == KEYS
    [half] = environment.find({"AWS_PROFILE": "minio", "AWS_ACCESS_KEY_ID": "AKIA1"}, CREDENTIALS, CONFIG)
    assert half.credentials["AWS_ACCESS_KEY_ID"] == "minio"


@pytest.mark.parametrize("text", [f"aws_secret_access_key = {CANARY}\n", f"[default]\n{CANARY}\n", f"[default\nkey={CANARY}"])
def test_a_malformed_file_is_named_without_quoting_it(text: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        environment.find({}, text)
    assert "~/.aws/credentials" in caught.value.message
    assert CANARY not in caught.value.message
    assert caught.value.__cause__ is None


@given(
    st.dictionaries(st.sampled_from([*KEYS, "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_PROFILE", "MLFLOW_TRACKING_URI"]), st.text()),
    st.text(),
    st.text(),
)
def test_any_environment_gives_http_targets_or_an_error(variables: dict[str, str], credentials: str, config: str) -> None:
    try:
        targets = environment.find(variables, credentials, config)
    except errors.InvalidError:
        return
    assert all(target.origin.startswith(("http://", "https://")) for target in targets)


def test_the_representation_of_a_target_holds_no_secrets() -> None:
    assert CANARY not in repr(environment.find(KEYS))
