"""Resolution: the selector examples of the original's specification, every rule, and how a choice is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from fuseml.domain import errors, plans, workflows
from fuseml.domain.plans import planning
from fuseml.domain.registry import extension, resolution, selector
from fuseml.domain.workflows import loading
from tests.unit import registry_examples, workflow_examples

RECORDS = [registry_examples.load(text) for name, text in registry_examples.TEXTS.items() if name != "overview"]
EXAMPLES = workflow_examples.named("registry-selectors")
ALPHA = selector.Context(project="workspace", zone="cluster-alpha")
S3_SECRETS = {"AWS_ACCESS_KEY_ID": "24oT0SfbJPEu6kUbUKsH", "AWS_SECRET_ACCESS_KEY": "cMGiZff8KqS5xWQ4eagRujh1tDcbQyRP0bEJSBOf"}

# The record that example 2 asks for; the one among the record examples is an older KServe.
KSERVE_110 = extension.Extension.model_validate(
    {
        "id": "kserve-new",
        "product": "kserve",
        "version": "1.10.3",
        "zone": "cluster-alpha",
        "services": [{"id": "API", "resource": "kserve-api", "endpoints": [{"url": "https://kubernetes.default.svc", "type": "internal"}]}],
    }
)


def environment(step: str, records: Sequence[extension.Extension], context: selector.Context) -> dict[str, str]:
    """The variables that the registry gives to one step of the examples, secrets in clear, as the process will see them."""
    only = next(candidate for candidate in EXAMPLES.steps if candidate.name == step)
    document = workflows.Workflow.model_validate({**EXAMPLES.model_dump(by_alias=True), "steps": [only.model_dump(by_alias=True)]})
    bound = {binding.name: binding for binding in resolution.resolve(only.extensions, records, context).bindings}
    planned = planning.build(
        document, revision=1, run_id="0" * 32, run_name="run-1", project="workspace", codesets={}, inputs={}, bindings={step: bound}
    )
    secrets = {
        f"{record.id}/{service.id}/{credentials.id}/{key}": value
        for record in records
        for service in record.services
        for credentials in service.credentials
        for key, value in credentials.configuration.items()
    }
    values = {
        name: plans.evaluate(value, {}, lambda part: secrets[part.ref])
        for name, value in workflow_examples.variables(planned.steps[0]).items()
    }
    return {name: value for name, value in values.items() if not name.startswith("FUSEML_ENV_")}


# The examples of the specification, environment maps key by key


def test_example_1_names_the_services_and_gets_the_internal_endpoints() -> None:
    assert environment("by-id", RECORDS, ALPHA) == {
        "MLFLOW_TRACKING_URI": "http://mlflow.mlflow",
        "MLFLOW_S3_ENDPOINT_URL": "http://mlflow-minio.mlflow:9000",
        **S3_SECRETS,
    }


def test_example_1_from_another_zone_gets_the_external_endpoints() -> None:
    assert environment("by-id", RECORDS, selector.Context(zone="elsewhere")) == {
        "MLFLOW_TRACKING_URI": "http://mlflow.10.110.120.130.nip.io",
        "MLFLOW_S3_ENDPOINT_URL": "http://minio.10.110.120.130.nip.io",
        **S3_SECRETS,
    }


def test_example_2_asks_for_a_product_in_a_range_of_versions() -> None:
    (found,) = resolution.resolve(EXAMPLES.steps[1].extensions, [*RECORDS, KSERVE_110], ALPHA).bindings
    assert (found.extension_id, found.service_id, found.version, found.url) == (
        "kserve-new",
        "API",
        "1.10.3",
        "https://kubernetes.default.svc",
    )
    assert environment("by-version", [*RECORDS, KSERVE_110], ALPHA) == {}


def test_example_2_without_such_a_version_is_told_what_there_is() -> None:
    with pytest.raises(errors.UnresolvedError) as refused:
        resolution.resolve(EXAMPLES.steps[1].extensions, RECORDS, ALPHA)
    (explanation,) = explanations(refused.value)
    assert ("kserve-local", "rejected", "version", "version 0.7.0 does not satisfy ~1.10.0") in verdicts(explanation)


def test_example_3_asks_for_resources_only() -> None:
    tracking, store = resolution.resolve(
        EXAMPLES.steps[2].extensions, [record for record in RECORDS if record.product == "mlflow"], ALPHA
    ).bindings
    assert (tracking.service_id, store.service_id) == ("mlflow-tracking", "mlflow-store")
    # With the same store registered a second time, as MinIO 4.1.3, the higher version wins.
    _, store = resolution.resolve(EXAMPLES.steps[2].extensions, RECORDS, ALPHA).bindings
    assert (store.extension_id, store.ambiguous_with) == ("mlflow-model-store-0001", [])


@pytest.mark.parametrize(
    ("zone", "extension_id", "url"),
    [
        ("development-cluster", "minio-s3-storage", "http://minio.minio:9000"),
        ("eu-central-1", "aws-object-storage", "https://s3.eu-central-1.amazonaws.com"),
        ("cluster-alpha", "mlflow-model-store-0001", "http://mlflow-minio.mlflow:9000"),
    ],
)
def test_one_selector_gets_the_store_of_the_zone_that_it_runs_in(zone: str, extension_id: str, url: str) -> None:
    (found,) = resolution.resolve([selector.Selector(service_resource="s3")], RECORDS, selector.Context(zone=zone)).bindings
    assert (found.extension_id, found.url) == (extension_id, url)


def test_example_4_maps_configuration_to_variables() -> None:
    assert environment("mapped-to-variables", RECORDS, ALPHA) == {
        "MLFLOW_TRACKING_URI": "http://mlflow.mlflow",
        "MLFLOW_S3_ENDPOINT_URL": "http://mlflow-minio.mlflow:9000",
        **S3_SECRETS,
        "S3_ACCESS_KEY_ID": S3_SECRETS["AWS_ACCESS_KEY_ID"],
        "S3_SECRET_ACCESS_KEY": S3_SECRETS["AWS_SECRET_ACCESS_KEY"],
        "MLFLOW_TRACKER_URL": "http://mlflow.mlflow",
        "MLFLOW_TRACKER_VERSION": "1.19.0",
        "MLFLOW_TRACKER_ZONE": "cluster-alpha",
    }


def test_example_5_maps_configuration_to_inputs() -> None:
    records = [record for record in RECORDS if record.product == "minio" and record.zone == "development-cluster"]
    assert environment("mapped-to-inputs", records, selector.Context(zone="development-cluster")) == {
        "FUSEML_S3_ACCESS_KEY": S3_SECRETS["AWS_ACCESS_KEY_ID"],
        "FUSEML_S3_SECRET_ACCESS_KEY": S3_SECRETS["AWS_SECRET_ACCESS_KEY"],
        "FUSEML_S3_ENDPOINT_URL": "http://minio.minio:9000",
        **S3_SECRETS,
    }


@pytest.mark.parametrize(
    ("project", "user", "credentials"),
    [("alpha", "", "project-alpha"), ("alpha", "alainturing", "user-alainturing"), ("beta", "alainturing", "user-alainturing")],
)
def test_record_example_6_serves_its_projects_and_users(project: str, user: str, credentials: str) -> None:
    context = selector.Context(project=project, user=user)
    (found,) = resolution.resolve([selector.Selector(product="seldon")], RECORDS, context).bindings
    assert (found.credentials_id, found.credentials_scope) == (credentials, credentials.partition("-")[0])
    assert found.environment() == {
        "INSECURE": "false",
        "namespace": "prj_hys568",
        **dict.fromkeys(["CLIENT_CERT", "CLIENT_KEY", "CLUSTER_CERT_AUTH"], extension.HIDDEN),
    }


# The rules


def store(id: str = "store", *, service: Mapping[str, Any] | None = None, **fields: Any) -> extension.Extension:
    """An S3 store with one external endpoint."""
    known = {"id": "s3", "resource": "s3", "category": "object-storage", "endpoints": [{"url": f"https://{id}"}], **(service or {})}
    return extension.Extension.model_validate({"id": id, "product": "minio", "version": "1.0", **fields, "services": [known]})


S3 = selector.Selector(name="store", service_resource="s3")


def resolved(*records: extension.Extension, wanted: selector.Selector = S3, home: str = "", **context: str) -> selector.Binding:
    (found,) = resolution.resolve([wanted], records, selector.Context(**context), home=home).bindings
    return found


def refusal(*records: extension.Extension, wanted: selector.Selector = S3, home: str = "", **context: str) -> errors.UnresolvedError:
    with pytest.raises(errors.UnresolvedError) as refused:
        resolution.resolve([wanted], records, selector.Context(**context), home=home)
    return refused.value


def explanations(refused: errors.UnresolvedError) -> list[dict[str, Any]]:
    found: Any = refused.details["explanations"]
    return list(found)


def verdicts(explanation: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    return [
        (
            "/".join(filter(None, (c["extension_id"], c["service_id"], c["url"], c["credentials_id"]))),
            c["verdict"],
            c["rule"],
            c["sentence"],
        )
        for c in explanation["candidates"]
    ]


def reasons(refused: errors.UnresolvedError) -> list[tuple[str, str, str]]:
    """(candidate, rule, sentence) of every rejection."""
    return [(place, rule, sentence) for place, verdict, rule, sentence in verdicts(explanations(refused)[0]) if verdict == "rejected"]


@pytest.mark.parametrize(
    ("field", "wrong", "place", "sentence"),
    [
        ("extension_id", "other", "store", "its id is not other"),
        ("product", "aws-s3", "store", "its product is minio, not aws-s3"),
        ("zone", "west", "store", "its zone is the control plane, not west"),
        ("version", ">=2.0", "store", "version 1.0 does not satisfy >=2.0"),
        ("service_id", "tracking", "store/s3", "its id is s3, not tracking"),
        ("service_resource", "git", "store/s3", "its resource is s3, not git"),
        ("service_category", "VCS", "store/s3", "its category is object-storage, not VCS"),
    ],
)
def test_what_a_selector_names_must_be_equal(field: str, wrong: str, place: str, sentence: str) -> None:
    assert reasons(refusal(store(), wanted=selector.Selector.model_validate({field: wrong}))) == [(place, field, sentence)]


def test_an_empty_selector_takes_anything() -> None:
    assert resolved(store(), wanted=selector.Selector()).extension_id == "store"


def test_internal_endpoints_are_for_their_own_zone() -> None:
    record = store(zone="east", service={"endpoints": [{"url": "http://in", "type": "internal"}]})
    assert resolved(record, zone="east").url == "http://in"
    assert reasons(refusal(record, zone="west")) == [
        ("store/s3/http://in", "zone", "it is internal to zone east, and the consumer is in west"),
    ]
    assert reasons(refusal(record))[0][2] == "it is internal to zone east, and the consumer is in the control plane"


@pytest.mark.parametrize(("theirs", "ours"), [("", ""), ("", "home"), ("home", ""), ("home", "home")])
def test_no_zone_is_the_zone_of_the_control_plane(theirs: str, ours: str) -> None:
    record = store(zone=theirs, service={"endpoints": [{"url": "http://in", "type": "internal"}]})
    assert resolved(record, home="home", zone=ours).url == "http://in"
    assert resolved(record, home="home", zone=ours, wanted=selector.Selector(zone="home")).url == "http://in"


CREDENTIALS = {
    "global": {"id": "g"},
    "alpha": {"id": "p", "scope": "project", "projects": ["alpha", "beta"]},
    "ada": {"id": "u", "scope": "user", "users": ["ada"]},
    "ada-alpha": {"id": "v", "scope": "user", "users": ["ada"], "projects": ["alpha"]},
}


@pytest.mark.parametrize(
    ("accounts", "project", "user", "chosen"),
    [
        (["global", "alpha", "ada"], "alpha", "ada", "u"),
        (["global", "alpha", "ada"], "alpha", "eve", "p"),
        (["global", "alpha", "ada"], "gamma", "eve", "g"),
        (["global", "alpha"], "beta", "", "p"),
        (["global", "ada"], "", "ada", "u"),
        (["global", "ada-alpha"], "gamma", "ada", "g"),
        (["global", "ada-alpha"], "alpha", "ada", "v"),
        (["ada-alpha", "ada"], "alpha", "ada", "u"),
    ],
)
def test_a_user_comes_before_a_project_and_that_before_everybody(accounts: Sequence[str], project: str, user: str, chosen: str) -> None:
    for order in (accounts, accounts[::-1]):
        record = store(service={"auth_required": True, "credentials": [CREDENTIALS[name] for name in order]})
        assert resolved(record, project=project, user=user).credentials_id == chosen


def test_of_one_scope_the_default_comes_first_then_the_id() -> None:
    accounts = [{"id": "b"}, {"id": "a"}, {"id": "c", "default": True}]
    assert resolved(store(service={"credentials": accounts})).credentials_id == "c"
    assert resolved(store(service={"credentials": accounts[:2]})).credentials_id == "a"
    # The scope counts more than the default.
    personal = {"id": "z", "scope": "user", "users": ["ada"]}
    assert resolved(store(service={"credentials": [*accounts, personal]}), user="ada").credentials_id == "z"


def test_a_service_that_needs_credentials_is_rejected_where_none_fit() -> None:
    record = store(service={"auth_required": True, "credentials": [CREDENTIALS["alpha"], CREDENTIALS["ada-alpha"]]})
    assert reasons(refusal(record, project="gamma", user="ada")) == [
        ("store/s3/p", "credentials_scope", "they are for the projects alpha, beta, not for gamma"),
        ("store/s3/v", "credentials_scope", "they are for the projects alpha, not for gamma"),
        ("store/s3", "auth_required", "it needs credentials, and none are for user ada in project gamma"),
    ]
    assert reasons(refusal(record))[-1][2] == "it needs credentials, and none are for a consumer without project"
    assert ("store/s3/v", "credentials_scope", "they are for the users ada, not for eve") in reasons(
        refusal(record, project="x", user="eve")
    )


def test_a_service_that_needs_none_is_used_without_credentials_that_do_not_fit() -> None:
    found = resolved(store(service={"credentials": [CREDENTIALS["alpha"]]}), project="gamma")
    assert (found.credentials_id, found.credentials_scope, found.secret_keys) == ("", "", [])


def test_credentials_whose_value_was_never_given_do_not_count() -> None:
    record = store(service={"auth_required": True, "credentials": [{"id": "g", "configuration": {"KEY": extension.HIDDEN, "ID": "x"}}]})
    assert ("store/s3/g", "credentials", "no value was ever given for KEY") in reasons(refusal(record))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Each beats the other although the rules that come later speak for the other one.
        ({"zone": "here", "version": "1.0"}, {"zone": "there", "version": "9.0"}),
        ({"id": "z", "version": "1.10.0"}, {"id": "a", "version": "1.9.0"}),
        ({"id": "z", "version": "1.0.0"}, {"id": "a", "version": "1.0.0-rc.1"}),
        ({"id": "z", "version": "0.0.1"}, {"id": "a", "version": "RELEASE.2023-01-01"}),
        ({"id": "z", "version": "RELEASE.2023-01-01"}, {"id": "a", "version": "RELEASE.2021-06-17"}),
        ({"id": "z", "version": "nightly"}, {"id": "a", "version": ""}),
        ({"id": "a"}, {"id": "b"}),
    ],
)
def test_the_order_is_zone_then_version_then_id(better: dict[str, Any], worse: dict[str, Any]) -> None:
    first, second = store(**{"id": "b", "zone": "here", **better}), store(**{"id": "a", "zone": "here", **worse})
    for records in ((first, second), (second, first)):
        assert resolved(*records, zone="here").extension_id == first.id


def test_internal_comes_before_external_and_before_a_higher_version() -> None:
    both = [{"url": "http://a"}, {"url": "http://in", "type": "internal"}]
    old = store("z", version="1.0", service={"endpoints": both})
    assert resolved(store("a", version="2.0"), old).url == "http://in"


def test_ties_that_only_the_id_broke_are_reported() -> None:
    found = resolved(store("c"), store("a"), store("b", version="v1.0.0+build"), store("d", version="0.9"))
    assert (found.extension_id, found.ambiguous_with) == ("a", ["b/s3", "c/s3"])


def test_endpoints_of_one_service_are_no_ambiguity() -> None:
    found = resolved(store(service={"endpoints": [{"url": "https://b"}, {"url": "https://a"}]}))
    assert (found.url, found.ambiguous_with) == ("https://a", [])


def test_not_more_rivals_are_listed_than_a_person_reads() -> None:
    found = resolved(*(store(f"s{index:02}") for index in range(40)))
    assert found.ambiguous_with == [f"s{index:02}/s3" for index in range(1, resolution.MAX_TIES + 1)]


def test_a_selector_may_refuse_ambiguity() -> None:
    strict = S3.model_copy(update={"ambiguity": "error"})
    refused = refusal(store("a"), store("b"), wanted=strict)
    assert refused.message == (
        "selector 'store' found nothing (a/s3/https://a: it is as good as b/s3, and the selector refuses to choose by id)"
    )
    assert [verdict for _, verdict, _, _ in verdicts(explanations(refused)[0])] == ["eligible", "eligible"]
    assert resolved(store("a"), store("b", version="0.9"), wanted=strict).extension_id == "a"


SICK = {"health": {"state": "unhealthy", "since": "2026-01-01T12:00:00Z", "cause": "connection refused"}}


def test_a_selector_may_ask_for_what_is_healthy() -> None:
    healthy = S3.model_copy(update={"healthy": True})
    sick = store("a", service={"endpoints": [{"url": "https://a", "status": SICK}]})
    assert resolved(sick, store("b")).extension_id == "a"
    assert resolved(sick, store("b"), wanted=healthy).extension_id == "b"
    assert reasons(refusal(sick, wanted=healthy)) == [
        ("a/s3/https://a", "healthy", "it is unhealthy since 2026-01-01T12:00:00Z: connection refused")
    ]


def test_what_is_unhealthy_is_noted_where_it_is_chosen_all_the_same() -> None:
    record = store("a", service={"endpoints": [{"url": "https://a", "status": SICK}]})
    (explanation,) = resolution.resolve([S3], [record], selector.Context(), explain=True).explanations
    assert explanation.candidates[0].sentence.endswith("; it is unhealthy since 2026-01-01T12:00:00Z: connection refused")


def test_credentials_that_are_refused_count_as_unhealthy() -> None:
    accounts = [{"id": "a", "status": SICK}, {"id": "b"}]
    record = store(service={"auth_required": True, "credentials": accounts})
    assert resolved(record).credentials_id == "a"
    assert resolved(record, wanted=S3.model_copy(update={"healthy": True})).credentials_id == "b"


def test_nearer_configuration_overrides_what_stands_above() -> None:
    service = {
        "configuration": {"A": "service", "B": "service"},
        "endpoints": [{"url": "u", "configuration": {"A": "endpoint", "C": "endpoint"}}],
        "credentials": [{"id": "c", "configuration": {"A": "secret"}}],
    }
    found = resolved(store(configuration={"A": "extension", "B": "extension", "D": "extension"}, service=service))
    assert found.configuration == {"B": "service", "C": "endpoint", "D": "extension"}
    assert found.secret_keys == ["A"]
    assert found.environment() == {**found.configuration, "A": extension.HIDDEN}


def test_a_binding_tells_what_was_bound_and_at_which_revision() -> None:
    record = store("e", zone="east", revision=7, service={"credentials": [{"id": "c", "configuration": {"KEY": "canary"}}]})
    assert resolved(record).model_dump() == {
        "name": "store",
        "extension_id": "e",
        "service_id": "s3",
        "service_resource": "s3",
        "service_category": "object-storage",
        "product": "minio",
        "version": "1.0",
        "zone": "east",
        "url": "https://e",
        "endpoint_type": "external",
        "credentials_id": "c",
        "credentials_scope": "global",
        "configuration": {},
        "secret_keys": ["KEY"],
        "revision": 7,
        "ambiguous_with": [],
    }


# Explanations


def test_every_candidate_is_explained() -> None:
    records = [
        store(
            "best", zone="here", version="2.0", service={"endpoints": [{"url": "http://in", "type": "internal"}, {"url": "https://out"}]}
        ),
        store("old", zone="here", version="1.0", service={"endpoints": [{"url": "http://in", "type": "internal"}]}),
        store("same", zone="here", version="2.0", service={"endpoints": [{"url": "http://in", "type": "internal"}]}),
        store("far", zone="there", version="9.0", service={"credentials": [CREDENTIALS["alpha"]]}),
        store("bare", service={"endpoints": []}),
        extension.Extension.model_validate({"id": "empty"}),
        KSERVE_110,
    ]
    (explanation,) = resolution.resolve([S3], records, selector.Context(zone="here"), explain=True).explanations
    assert verdicts(explanation.model_dump()) == [
        ("best/s3/http://in", "chosen", "first", "it is the best that fits, by its id alone before same/s3"),
        ("same/s3/http://in", "eligible", "id", "it fits as well as best/s3, which comes first by its id"),
        ("old/s3/http://in", "eligible", "version", "it fits, but best/s3 has the higher version"),
        ("best/s3/https://out", "eligible", "endpoint", "it fits, but best/s3 is internal"),
        ("far/s3/https://far", "eligible", "zone", "it fits, but best/s3 is in the consumer's own zone"),
        ("far/s3/p", "rejected", "credentials_scope", "they are for the projects alpha, beta, not for no project"),
        ("bare/s3", "rejected", "endpoint", "it has no endpoints"),
        ("kserve-new/API", "rejected", "service_resource", "its resource is kserve-api, not s3"),
        ("empty", "rejected", "service", "it has no services"),
    ]


def test_the_only_one_is_called_so() -> None:
    (explanation,) = resolution.resolve([S3], [store()], selector.Context(), explain=True).explanations
    assert verdicts(explanation.model_dump()) == [("store/s3/https://store", "chosen", "only", "it is the only one that fits")]


def test_explanations_are_bounded_and_count_what_they_leave_out() -> None:
    records = [store(f"s{index:03}") for index in range(300)]
    (explanation,) = resolution.resolve([S3], records, selector.Context(), explain=True).explanations
    assert (len(explanation.candidates), explanation.omitted) == (resolution.MAX_EXPLAINED, 100)
    assert [candidate.verdict for candidate in explanation.candidates[:2]] == ["chosen", "eligible"]
    (missed,) = explanations(refusal(*records, wanted=selector.Selector(product="none")))
    assert (len(missed["candidates"]), missed["omitted"]) == (resolution.MAX_EXPLAINED, 100)


def test_what_came_furthest_is_named_first() -> None:
    near = store("near", service={"auth_required": True, "credentials": [CREDENTIALS["alpha"]]})
    refused = refusal(store("z", product="x"), near, wanted=S3.model_copy(update={"product": "minio"}), project="gamma")
    assert refused.message == "selector 'store' found nothing (near/s3: it needs credentials, and none are for project gamma)"
    assert reasons(refused)[0][0] == "near/s3/p"


def test_all_selectors_that_find_nothing_are_named_with_their_explanations() -> None:
    wanted = [S3, selector.Selector(name="git", service_resource="git"), selector.Selector(name="ui", service_resource="ui")]
    with pytest.raises(errors.UnresolvedError) as refused:
        resolution.resolve(wanted, [store()], selector.Context(), explain=True)
    assert refused.value.details["unresolved"] == ["git", "ui"]
    assert [explanation["selector"] for explanation in explanations(refused.value)] == ["store", "git", "ui"]
    assert "'git' found nothing (store/s3: its resource is s3, not git)" in refused.value.message


def test_an_empty_registry_says_so() -> None:
    refused = refusal()
    assert refused.message == "selector 'store' found nothing: no extension is registered that could be meant"
    assert explanations(refused) == [{"selector": "store", "candidates": [], "omitted": 0}]


def test_selectors_need_no_names_to_be_told_apart() -> None:
    wanted = [selector.Selector(service_resource="s3"), selector.Selector(service_resource="git")]
    with pytest.raises(errors.UnresolvedError, match="its resource is s3, not git"):
        resolution.resolve(wanted, [store()], selector.Context(), explain=True)


# What may be asked


@pytest.mark.parametrize("version", [">=1.0 && <2", "not a version", "~1..2"])
def test_a_malformed_constraint_is_refused_when_it_is_written(version: str) -> None:
    with pytest.raises(errors.InvalidError, match="is not a version constraint"):
        loading.load(f"name: w\nsteps:\n  - name: s\n    image: i\n    extensions:\n      - name: e\n        version: '{version}'\n")


def test_a_version_that_is_no_semantic_one_may_be_asked_for() -> None:
    text = "name: w\nsteps:\n  - name: s\n    image: i\n    extensions:\n      - name: e\n        version: RELEASE.2021-06-17\n"
    (wanted,) = loading.load(text).steps[0].extensions
    assert resolved(store(version="RELEASE.2021-06-17"), wanted=wanted).version == "RELEASE.2021-06-17"
    assert reasons(refusal(store(version="2.0"), wanted=wanted))[0][1] == "version"


def test_a_refusal_names_what_came_nearest() -> None:
    near = extension.Extension.model_validate({"id": "z-near", "product": "mlflow", "version": "1.19.0", "services": [{"id": "s"}]})
    far = extension.Extension.model_validate({"id": "a-far", "product": "minio", "services": [{"id": "s"}]})

    with pytest.raises(errors.UnresolvedError, match=r"z-near: version 1\.19\.0 does not satisfy >=3"):
        resolution.resolve([selector.Selector(name="tracking", product="mlflow", version=">=3")], [near, far], selector.Context())
