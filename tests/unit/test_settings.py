"""Settings from the environment, tokens, and the table of functions."""

from __future__ import annotations

import pytest

from fuseml.domain import errors
from fuseml.platform import Knative
from fuseml.runtime import auth, catalog, settings

ENVIRONMENT = {
    "FUSEML_DATABASE_URL": "postgresql+psycopg://fuseml:canary@db/fuseml",
    "FUSEML_SECRET_KEYS": "canary-1, canary-2,",
    "FUSEML_ZONE": "eu",
    "K_SINK": "http://broker",
    "PATH": "/bin",
}


def test_only_known_variables_are_read() -> None:
    found = settings.Settings.from_env(ENVIRONMENT)
    assert (found.zone, found.broker_url, found.public_url, found.namespace) == ("eu", "http://broker", "", "fuseml-workloads")
    assert found.keys() == ["canary-1", "canary-2"]


def test_secrets_are_not_shown() -> None:
    assert "canary" not in repr(settings.Settings.from_env(ENVIRONMENT))


def test_an_unknown_variable_is_logged_and_the_others_are_read(caplog: pytest.LogCaptureFixture) -> None:
    found = settings.Settings.from_env({"FUSEML_ZOO": "canary", "FUSEML_ZONES": "canary", "FUSEML_ZONE": "eu"})
    assert found.zone == "eu"
    assert caplog.messages == ["settings FUSEML_ZONES, FUSEML_ZOO are not known to this version and have no effect"]


def test_all_missing_settings_are_named_at_once() -> None:
    empty = settings.Settings.from_env({"FUSEML_DATABASE_URL": ""})
    with pytest.raises(errors.PermanentError, match="missing settings: FUSEML_DATABASE_URL, K_SINK"):
        empty.require("broker_url", "database_url")
    assert empty.require("namespace") is empty


def test_steps_get_their_own_settings_only() -> None:
    variables = settings.Settings.from_env(
        {**ENVIRONMENT, "FUSEML_TRAINER_IMAGE": "registry.example.com/trainer:1", "FUSEML_IMAGE_REPOSITORY": ""}
    ).for_steps()
    assert variables == {"FUSEML_TRAINER_IMAGE": "registry.example.com/trainer:1"}
    assert settings.Settings(trainer_image="").for_steps() == {}


def test_every_variable_is_described() -> None:
    assert all(settings.DESCRIPTIONS.values())
    assert {"K_SINK", "FUSEML_DATABASE_URL"} < settings.DESCRIPTIONS.keys()


@pytest.mark.parametrize(
    ("dependency", "variable"),
    [
        ("store", "FUSEML_DATABASE_URL"),
        ("publisher", "K_SINK"),
        ("tokens", "FUSEML_TOKEN_HASHES"),
        ("keyring", "FUSEML_SECRET_KEYS"),
        ("git", "FUSEML_PUBLIC_URL, FUSEML_GIT_URL, FUSEML_GIT_TOKEN"),
        ("public_url", "FUSEML_PUBLIC_URL"),
    ],
)
def test_a_missing_setting_is_named_before_anything_connects(dependency: str, variable: str) -> None:
    with pytest.raises(errors.PermanentError, match=f"missing settings: {variable}"):
        getattr(Knative(settings.Settings()), dependency)


def test_a_token_is_known_by_its_hash() -> None:
    known = auth.Tokens.parse(f"admin:{auth.digest_of('one').upper()}, workload:{auth.digest_of('two')}")
    assert known.caller("Bearer one") == auth.Caller("admin", "admin")
    with pytest.raises(errors.UnauthenticatedError, match="not valid"):  # the shared token of former releases
        known.caller("bearer  two ")


def test_a_step_is_refused_where_none_is_accepted_and_named_where_it_is() -> None:
    known = auth.Tokens.parse(f"admin:{auth.digest_of('one')}")
    with pytest.raises(errors.ForbiddenError, match="a step's token may not do this"):
        known.caller(f"Bearer {auth.STEP_PREFIX}x")
    step = auth.StepCaller("demo", None, "train", "train-1", "predictor", ("applications",))
    accepting = known.accepting(lambda _: step)
    assert accepting.caller(f"Bearer {auth.STEP_PREFIX}x") == auth.Caller("step predictor of train-1", "step", step)
    assert accepting.caller("Bearer one").role == "admin"


def test_a_token_may_have_a_name() -> None:
    known = auth.Tokens.parse(f"ada@example.com:admin:{auth.digest_of('one')}")
    assert known.caller("Bearer one") == auth.Caller("ada@example.com", "admin")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer three", "Basic b25l", "one", "Bearer " + "ä" * 3])
def test_other_callers_are_refused(header: str | None) -> None:
    with pytest.raises(errors.UnauthenticatedError):
        auth.Tokens.parse(f"admin:{auth.digest_of('one')}").caller(header)


def test_anonymous_access_is_optional_and_refuses_a_wrong_token() -> None:
    open_to_all = auth.Tokens({}, anonymous=True)
    assert open_to_all.caller(None).role == "admin"
    with pytest.raises(errors.UnauthenticatedError, match="not valid"):
        open_to_all.caller("Bearer wrong")


@pytest.mark.parametrize(
    "text",
    ["admin", "root:" + "a" * 64, "admin:abc", "admin:" + "g" * 64, "admin:" + "ä" * 64, "a b:admin:" + "a" * 64, ":admin:" + "a" * 64],
)
def test_token_hashes_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(errors.PermanentError, match="FUSEML_TOKEN_HASHES must be `admin:sha256` or `name:admin:sha256` entries"):
        auth.Tokens.parse(text)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/workflows", "workflows"),
        ("/workflows/runs", "runs"),
        ("/workflows/runs/x", "runs"),
        ("/workflows/runsx", "workflows"),
        ("/workflows/assignments", "workflows"),
        ("/webhooks/gitea", "gitea_ingress"),
        ("/lineage", "artifacts"),
        ("/extensionsx", None),
        ("/", None),
    ],
)
def test_the_longest_prefix_serves_a_path(path: str, name: str | None) -> None:
    found = catalog.find(path)
    assert (found.name if found else None) == name
