"""Resolution: the selector examples of the original's specification, every rule, and explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fuseml.domain import errors, plans, workflows
from fuseml.domain.plans import planning
from fuseml.domain.registry import extension, resolution
from fuseml.domain.registry.selector import Context, Selector
from fuseml.domain.workflows import loading
from tests.unit import registry_examples, workflow_examples
from tests.unit.selecting import S3, explanations, reasons, refusal, resolved, store, verdicts

RECORDS = [registry_examples.load(text) for name, text in registry_examples.TEXTS.items() if name != "overview"]
EXAMPLES = workflow_examples.named("registry-selectors")
ALPHA = Context(project="workspace", zone="cluster-alpha")
S3_SECRETS = {"AWS_ACCESS_KEY_ID": "24oT0SfbJPEu6kUbUKsH", "AWS_SECRET_ACCESS_KEY": "cMGiZff8KqS5xWQ4eagRujh1tDcbQyRP0bEJSBOf"}


def environment(step: str, records: Sequence[extension.Extension], context: Context) -> dict[str, str]:
    """The environment of one step of the examples from the registry, with secrets in clear."""
    only = next(candidate for candidate in EXAMPLES.steps if candidate.name == step)
    document = workflows.Workflow.model_validate({**EXAMPLES.model_dump(by_alias=True), "steps": [only.model_dump(by_alias=True)]})
    bound = {binding.name: binding for binding in resolution.resolve(only.extensions, records, context).bindings}
    plan = planning.build(
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
        for name, value in workflow_examples.variables(plan.steps[0]).items()
    }
    return {name: value for name, value in values.items() if not name.startswith("FUSEML_ENV_")}


# The examples of the specification, environment maps key by key


def test_example_1_selects_services_by_id_with_internal_endpoints() -> None:
    assert environment("by-id", RECORDS, ALPHA) == {
        "MLFLOW_TRACKING_URI": "http://mlflow.mlflow",
        "MLFLOW_S3_ENDPOINT_URL": "http://mlflow-minio.mlflow:9000",
        **S3_SECRETS,
    }


def test_example_1_from_another_zone_has_external_endpoints() -> None:
    assert environment("by-id", RECORDS, Context(zone="elsewhere")) == {
        "MLFLOW_TRACKING_URI": "http://mlflow.10.110.120.130.nip.io",
        "MLFLOW_S3_ENDPOINT_URL": "http://minio.10.110.120.130.nip.io",
        **S3_SECRETS,
    }


def test_example_2_selects_a_product_in_a_range_of_versions() -> None:
    (binding,) = resolution.resolve(EXAMPLES.steps[1].extensions, [*RECORDS, registry_examples.KSERVE_110], ALPHA).bindings
    assert (binding.extension_id, binding.service_id, binding.version, binding.url) == (
        "kserve-new",
        "API",
        "1.10.3",
        "https://kubernetes.default.svc",
    )
    assert environment("by-version", [*RECORDS, registry_examples.KSERVE_110], ALPHA) == {}


def test_example_2_without_a_matching_version_is_explained() -> None:
    with pytest.raises(errors.UnresolvedError) as caught:
        resolution.resolve(EXAMPLES.steps[1].extensions, RECORDS, ALPHA)
    (explanation,) = explanations(caught.value)
    assert ("kserve-local", "rejected", "version", "version 0.7.0 does not satisfy ~1.10.0") in verdicts(explanation)


def test_example_3_selects_by_resource() -> None:
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
def test_a_selector_resolves_to_the_store_of_its_zone(zone: str, extension_id: str, url: str) -> None:
    (binding,) = resolution.resolve([Selector(service_resource="s3")], RECORDS, Context(zone=zone)).bindings
    assert (binding.extension_id, binding.url) == (extension_id, url)


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
    assert environment("mapped-to-inputs", records, Context(zone="development-cluster")) == {
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
    context = Context(project=project, user=user)
    (binding,) = resolution.resolve([Selector(product="seldon")], RECORDS, context).bindings
    assert (binding.credentials_id, binding.credentials_scope) == (credentials, credentials.partition("-")[0])
    assert binding.environment() == {
        "INSECURE": "false",
        "namespace": "prj_hys568",
        **dict.fromkeys(["CLIENT_CERT", "CLIENT_KEY", "CLUSTER_CERT_AUTH"], extension.HIDDEN),
    }


# The rules


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
def test_fields_of_a_selector_must_be_equal(field: str, wrong: str, place: str, sentence: str) -> None:
    assert reasons(refusal(store(), selector=Selector.model_validate({field: wrong}))) == [(place, field, sentence)]


def test_an_empty_selector_matches_everything() -> None:
    assert resolved(store(), selector=Selector()).extension_id == "store"


def test_internal_endpoints_are_for_their_own_zone() -> None:
    record = store(zone="east", service={"endpoints": [{"url": "http://in", "type": "internal"}]})
    assert resolved(record, zone="east").url == "http://in"
    assert reasons(refusal(record, zone="west")) == [
        ("store/s3/http://in", "zone", "it is internal to zone east, and the consumer is in west"),
    ]
    assert reasons(refusal(record))[0][2] == "it is internal to zone east, and the consumer is in the control plane"


@pytest.mark.parametrize(("theirs", "ours"), [("", ""), ("", "home"), ("home", ""), ("home", "home")])
def test_an_empty_zone_is_the_zone_of_the_control_plane(theirs: str, ours: str) -> None:
    record = store(zone=theirs, service={"endpoints": [{"url": "http://in", "type": "internal"}]})
    assert resolved(record, home="home", zone=ours).url == "http://in"
    assert resolved(record, home="home", zone=ours, selector=Selector(zone="home")).url == "http://in"


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
def test_user_scope_precedes_project_scope_and_global_scope(accounts: Sequence[str], project: str, user: str, chosen: str) -> None:
    for order in (accounts, accounts[::-1]):
        record = store(service={"auth_required": True, "credentials": [CREDENTIALS[name] for name in order]})
        assert resolved(record, project=project, user=user).credentials_id == chosen


def test_within_a_scope_the_default_precedes_the_id() -> None:
    accounts = [{"id": "b"}, {"id": "a"}, {"id": "c", "default": True}]
    assert resolved(store(service={"credentials": accounts})).credentials_id == "c"
    assert resolved(store(service={"credentials": accounts[:2]})).credentials_id == "a"
    # The scope precedes the default.
    personal = {"id": "z", "scope": "user", "users": ["ada"]}
    assert resolved(store(service={"credentials": [*accounts, personal]}), user="ada").credentials_id == "z"


def test_a_service_that_needs_credentials_is_rejected_if_none_apply() -> None:
    record = store(service={"auth_required": True, "credentials": [CREDENTIALS["alpha"], CREDENTIALS["ada-alpha"]]})
    assert reasons(refusal(record, project="gamma", user="ada")) == [
        ("store/s3/p", "credentials_scope", "they are for the projects alpha, beta, not for gamma"),
        ("store/s3/v", "credentials_scope", "they are for the projects alpha, not for gamma"),
        ("store/s3", "auth_required", "it needs credentials, and none apply to user ada in project gamma"),
    ]
    assert reasons(refusal(record))[-1][2] == "it needs credentials, and none apply to a consumer without project"
    assert ("store/s3/v", "credentials_scope", "they are for the users ada, not for eve") in reasons(
        refusal(record, project="x", user="eve")
    )


def test_a_service_that_needs_no_credentials_is_bound_without_them() -> None:
    binding = resolved(store(service={"credentials": [CREDENTIALS["alpha"]]}), project="gamma")
    assert (binding.credentials_id, binding.credentials_scope, binding.secret_keys) == ("", "", [])
    assert binding.withheld == "it gives no credentials: it has some, and none apply to project gamma"


@pytest.mark.parametrize(
    ("credentials", "context", "withheld"),
    [
        ([], {"project": "gamma"}, False),
        (["alpha"], {"project": "alpha"}, False),
        (["alpha"], {"project": "gamma"}, True),
        (["alpha"], {}, True),
        (["global"], {}, False),
        (["alpha", "global"], {"project": "gamma"}, False),
        (["alpha", "user"], {"project": "gamma", "user": "eve"}, True),
    ],
)
def test_withheld_credentials_are_in_the_binding_and_its_explanation(
    credentials: list[str], context: dict[str, str], withheld: bool
) -> None:
    known = {
        "alpha": CREDENTIALS["alpha"],
        "global": {"id": "all", "configuration": {"KEY": "x"}},
        "user": {"id": "mine", "scope": "user", "users": ["ada"], "configuration": {"KEY": "x"}},
    }
    record = store(service={"credentials": [known[name] for name in credentials]})
    selected = resolution.resolve([Selector(name="s")], [record], Context(**context), explain=True)
    assert bool(selected.bindings[0].withheld) is withheld
    chosen = selected.explanations[0].candidates[0]
    assert (chosen.verdict, "it gives no credentials: it has some, and none apply to " in chosen.sentence) == ("chosen", withheld)


def test_credentials_without_a_value_are_rejected() -> None:
    record = store(service={"auth_required": True, "credentials": [{"id": "g", "configuration": {"KEY": extension.HIDDEN, "ID": "x"}}]})
    assert ("store/s3/g", "credentials", "they have no value for KEY") in reasons(refusal(record))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Each precedes the other although later criteria favour the other one.
        ({"zone": "here", "version": "1.0"}, {"zone": "there", "version": "9.0"}),
        ({"id": "z", "version": "1.10.0"}, {"id": "a", "version": "1.9.0"}),
        ({"id": "z", "version": "1.0.0"}, {"id": "a", "version": "1.0.0-rc.1"}),
        ({"id": "z", "version": "0.0.1"}, {"id": "a", "version": "RELEASE.2023-01-01"}),
        ({"id": "z", "version": "RELEASE.2023-01-01"}, {"id": "a", "version": "RELEASE.2021-06-17"}),
        ({"id": "z", "version": "nightly"}, {"id": "a", "version": ""}),
        ({"id": "a"}, {"id": "b"}),
    ],
)
def test_zone_precedes_version_and_version_precedes_id(better: dict[str, Any], worse: dict[str, Any]) -> None:
    first, second = store(**{"id": "b", "zone": "here", **better}), store(**{"id": "a", "zone": "here", **worse})
    for records in ((first, second), (second, first)):
        assert resolved(*records, zone="here").extension_id == first.id


def test_internal_precedes_external_and_higher_versions() -> None:
    both = [{"url": "http://a"}, {"url": "http://in", "type": "internal"}]
    old = store("z", version="1.0", service={"endpoints": both})
    assert resolved(store("a", version="2.0"), old).url == "http://in"


def test_ties_are_reported() -> None:
    binding = resolved(store("c"), store("a"), store("b", version="v1.0.0+build"), store("d", version="0.9"))
    assert (binding.extension_id, binding.ambiguous_with) == ("a", ["b/s3", "c/s3"])


def test_endpoints_of_one_service_are_no_ties() -> None:
    binding = resolved(store(service={"endpoints": [{"url": "https://b"}, {"url": "https://a"}]}))
    assert (binding.url, binding.ambiguous_with) == ("https://a", [])


def test_the_list_of_ties_is_bounded() -> None:
    binding = resolved(*(store(f"s{index:02}") for index in range(40)))
    assert binding.ambiguous_with == [f"s{index:02}/s3" for index in range(1, resolution.MAX_TIES + 1)]


def test_a_selector_can_refuse_ambiguity() -> None:
    strict = S3.model_copy(update={"ambiguity": "error"})
    refused = refusal(store("a"), store("b"), selector=strict)
    assert refused.message == (
        "selector 'store' matches nothing (a/s3/https://a: it ties with b/s3, and the selector refuses a choice by id)"
    )
    assert [verdict for _, verdict, _, _ in verdicts(explanations(refused)[0])] == ["eligible", "eligible"]
    assert resolved(store("a"), store("b", version="0.9"), selector=strict).extension_id == "a"


def test_configuration_of_lower_levels_overrides_higher_ones() -> None:
    service = {
        "configuration": {"A": "service", "B": "service"},
        "endpoints": [{"url": "u", "configuration": {"A": "endpoint", "C": "endpoint"}}],
        "credentials": [{"id": "c", "configuration": {"A": "secret"}}],
    }
    binding = resolved(store(configuration={"A": "extension", "B": "extension", "D": "extension"}, service=service))
    assert binding.configuration == {"B": "service", "C": "endpoint", "D": "extension"}
    assert binding.secret_keys == ["A"]
    assert binding.environment() == {**binding.configuration, "A": extension.HIDDEN}


def test_a_binding_shows_which_secrets_are_files() -> None:
    account = {"id": "c", "configuration": {"KEY": "secret", "TOKEN": "secret"}, "files": {"KEY": "gcloud/key.json"}}
    binding = resolved(store(service={"credentials": [account]}))
    assert (binding.secret_keys, binding.secret_files) == (["KEY", "TOKEN"], {"KEY": "gcloud/key.json"})
    assert binding.environment() == {"KEY": "<file gcloud/key.json>", "TOKEN": extension.HIDDEN}


def test_a_binding_names_the_service_and_the_revision_of_its_record() -> None:
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
        "secret_files": {},
        "revision": 7,
        "ambiguous_with": [],
        "withheld": "",
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
        registry_examples.KSERVE_110,
    ]
    (explanation,) = resolution.resolve([S3], records, Context(zone="here"), explain=True).explanations
    assert verdicts(explanation.model_dump()) == [
        ("best/s3/http://in", "chosen", "first", "it is the best match; only the id puts it before same/s3"),
        ("same/s3/http://in", "eligible", "id", "it matches equally well, but best/s3 comes first by id"),
        ("old/s3/http://in", "eligible", "version", "it matches, but best/s3 has the higher version"),
        ("best/s3/https://out", "eligible", "endpoint", "it matches, but best/s3 is internal"),
        ("far/s3/https://far", "eligible", "zone", "it matches, but best/s3 is in the consumer's own zone"),
        ("far/s3/p", "rejected", "credentials_scope", "they are for the projects alpha, beta, not for no project"),
        ("bare/s3", "rejected", "endpoint", "it has no endpoints"),
        ("kserve-new/API", "rejected", "service_resource", "its resource is kserve-api, not s3"),
        ("empty", "rejected", "service", "it has no services"),
    ]


def test_an_only_match_is_explained_as_such() -> None:
    (explanation,) = resolution.resolve([S3], [store()], Context(), explain=True).explanations
    assert verdicts(explanation.model_dump()) == [("store/s3/https://store", "chosen", "only", "it is the only match")]


def test_explanations_are_bounded_and_count_omitted_candidates() -> None:
    records = [store(f"s{index:03}") for index in range(300)]
    (explanation,) = resolution.resolve([S3], records, Context(), explain=True).explanations
    assert (len(explanation.candidates), explanation.omitted) == (resolution.MAX_EXPLAINED, 100)
    assert [candidate.verdict for candidate in explanation.candidates[:2]] == ["chosen", "eligible"]
    (missed,) = explanations(refusal(*records, selector=Selector(product="none")))
    assert (len(missed["candidates"]), missed["omitted"]) == (resolution.MAX_EXPLAINED, 100)


def test_the_nearest_candidate_is_named_first() -> None:
    near = store("near", service={"auth_required": True, "credentials": [CREDENTIALS["alpha"]]})
    refused = refusal(store("z", product="x"), near, selector=S3.model_copy(update={"product": "minio"}), project="gamma")
    assert refused.message == "selector 'store' matches nothing (near/s3: it needs credentials, and none apply to project gamma)"
    assert reasons(refused)[0][0] == "near/s3/p"


def test_all_unresolved_selectors_are_explained() -> None:
    selectors = [S3, Selector(name="git", service_resource="git"), Selector(name="ui", service_resource="ui")]
    with pytest.raises(errors.UnresolvedError) as caught:
        resolution.resolve(selectors, [store()], Context(), explain=True)
    assert caught.value.details["unresolved"] == ["git", "ui"]
    assert [explanation["selector"] for explanation in explanations(caught.value)] == ["store", "git", "ui"]
    assert "'git' matches nothing (store/s3: its resource is s3, not git)" in caught.value.message


def test_the_commands_that_register_a_tool_are_named_once_and_only_where_there_is_no_candidate() -> None:
    def message(selectors: list[Selector], records: list[extension.Extension]) -> str:
        with pytest.raises(errors.UnresolvedError) as caught:
            resolution.resolve(selectors, records, Context())
        return caught.value.message

    git, ui = Selector(name="git", service_resource="git"), Selector(name="ui", service_resource="ui")
    assert message([git, ui], []).count("fuseml extension register") == 1
    assert "fuseml extension" not in message([git], [store()])


def test_an_empty_registry_has_no_candidate() -> None:
    refused = refusal()
    assert refused.message == (
        "selector 'store' matches nothing (the registry has no candidate for it); "
        "register one by `fuseml extension discover --apply` or `fuseml extension register`"
    )
    assert explanations(refused) == [{"selector": "store", "candidates": [], "omitted": 0}]


def test_selectors_need_no_names() -> None:
    selectors = [Selector(service_resource="s3"), Selector(service_resource="git")]
    with pytest.raises(errors.UnresolvedError, match="its resource is s3, not git"):
        resolution.resolve(selectors, [store()], Context(), explain=True)


# Accepted constraints


@pytest.mark.parametrize("version", [">=1.0 && <2", "not a version", "~1..2"])
def test_a_malformed_constraint_is_refused_with_the_workflow(version: str) -> None:
    with pytest.raises(errors.InvalidError, match="is not a version constraint"):
        loading.load(f"name: w\nsteps:\n  - name: s\n    image: i\n    extensions:\n      - name: e\n        version: '{version}'\n")


def test_a_selector_can_name_a_version_that_is_not_semantic() -> None:
    text = "name: w\nsteps:\n  - name: s\n    image: i\n    extensions:\n      - name: e\n        version: RELEASE.2021-06-17\n"
    (selector,) = loading.load(text).steps[0].extensions
    assert resolved(store(version="RELEASE.2021-06-17"), selector=selector).version == "RELEASE.2021-06-17"
    assert reasons(refusal(store(version="2.0"), selector=selector))[0][1] == "version"


def test_the_error_names_the_nearest_candidate() -> None:
    near = extension.Extension.model_validate({"id": "z-near", "product": "mlflow", "version": "1.19.0", "services": [{"id": "s"}]})
    far = extension.Extension.model_validate({"id": "a-far", "product": "minio", "services": [{"id": "s"}]})

    with pytest.raises(errors.UnresolvedError, match=r"z-near: version 1\.19\.0 does not satisfy >=3"):
        resolution.resolve([Selector(name="tracking", product="mlflow", version=">=3")], [near, far], Context())
