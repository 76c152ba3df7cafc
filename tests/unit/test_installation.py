"""Rules of installations: descriptions, the order of requirements, commands, conditions, addresses, records, and tools of a cluster."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fuseml.domain import errors
from fuseml.domain.installation import commands, description, exposure, findings, order, record, waiting
from fuseml.domain.registry import extension
from fuseml.installing import folders

NAMES = st.sampled_from("abcdefgh")
REQUIREMENTS = st.dictionaries(NAMES, st.lists(NAMES, max_size=4))


@given(REQUIREMENTS, NAMES)
def test_every_tool_comes_once_and_after_its_requirements_or_the_cycle_is_named(requires: dict[str, list[str]], target: str) -> None:
    def needs(name: str) -> list[str]:
        return requires.get(name, [])

    try:
        tools = order.ordered(target, needs)
    except errors.InvalidError as error:
        cycle = re.search(r"(\w( -> \w)+)", error.message)
        assert cycle is not None
        path = cycle[1].split(" -> ")
        assert path[0] == path[-1]
        assert all(after in needs(before) for before, after in itertools.pairwise(path))
        return
    assert tools[-1] == target
    assert len(set(tools)) == len(tools)
    assert all(tools.index(required) < tools.index(tool) for tool in tools for required in needs(tool))
    # Nothing else is installed.
    assert all(any(tool in needs(user) for user in tools) for tool in tools[:-1])


def test_a_chain_may_be_long() -> None:
    assert order.ordered("0", lambda name: [str(int(name) + 1)] if name != "5000" else [])[0] == "5000"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("install: []", "name is required"),
        ("name: a\ninstall: [{type: helm, chart: b}]", "a helm step needs `repo` and `chart`"),
        ("name: a\ninstall: [{type: manifest}]", "needs a `location`"),
        ("name: a\ninstall: [{type: script, location: 'https://example.com/run.sh'}]", "must be in the folder"),
        ("name: a\ninstall: [{type: manifest, location: /etc/passwd}]", "no path below the folder"),
        ("name: a\ninstall: [{type: manifest, location: a/../../b}]", "no path below the folder"),
        ("name: a\ninstall: [{type: manifest, location: 'http://example.com/a.yaml'}]", "no https address"),
        ("name: a\ninstall: [{type: manifest, location: 'file:///etc/passwd'}]", "no https address"),
        ("name: a\ninstall: [{type: manifest, location: 'https://user:key@example.com/a'}]", "no https address"),
        ("name: a\ninstall: [{type: manifest, location: 'oci://example.com/a'}]", "only charts have oci addresses"),
        ("name: a\ninstall: [{type: helm, repo: 'https://example.com', chart: --post-renderer=evil}]", "no name of a chart"),
        ("name: a\nnamespace: '--kubeconfig=x'", "no name of a namespace"),
        ("name: a\ninstall: [{type: helm, location: a, version: '--set=b'}]", "no version"),
        ("name: a\ninstall: [{type: helm, location: a}, {type: helm, location: b}]", "two helm steps have the release 'a'"),
        ("name: a\nrequires: [a]", "cannot require itself"),
        ("name: a\nservicecredentials: [{serviceid: b, credentials: [{id: c, transform: [{configvalue: X, secret: s, secretvalue: k}]}]}]", "no service 'b'"),
        ("name: a\nrolerules: [{apigroups: ['*'], resources: [pods], verbs: [get]}]", "no API group"),
        ("name: a\nservices: [{id: b, endpoints: [{url: 'http://b.c:99999'}]}]", "services[0].endpoints[0].url: is no address"),
        ("name: a\ninstal: []", "did you mean 'install'"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(errors.InvalidError) as caught:
        description.load(text)
    assert problem in caught.value.message, caught.value.message


HOSTILE = st.text(max_size=20) | st.sampled_from(["--help", "-x", "$(id)", "a b", "../a", "a;b", "\n--x", "=", "x\x00"])


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_value_becomes_an_option_or_leaves_its_argument(namespace: str, chart: str, version: str, location: str) -> None:
    document = {
        "name": "a",
        "namespace": namespace,
        "install": [{"type": "helm", "repo": "https://e.org", "chart": chart, "version": version, "values": location}],
    }
    try:
        owner = description.load(yaml.safe_dump(document))
    except errors.InvalidError:
        return
    for step in owner.install:
        command = commands.install(owner, step, lambda place: place)
        known = ("--install", "--wait", "--create-namespace", "--output=json", "--timeout=10m")
        joined = (f"--repo=https://e.org", f"--version={version}", f"--values={location}", f"--namespace={namespace}")  # noqa: F541
        assert all(word in ("helm", "upgrade", "a", chart, *known, *joined) for word in command)
        assert not chart.startswith("-")
        assert not any(sign in "".join(command) for sign in "\x00\n ")


def test_the_shipped_descriptions_are_valid_and_their_records_are_those_of_their_services() -> None:
    assert folders.shipped() == ["cert-manager", "gitea", "kserve", "mlflow", "seldon-core", "versitygw"]
    for name in folders.shipped():
        tools = folders.with_requirements(folders.tool(name))
        assert tools[-1].name == name
        owner = tools[-1].description
        services = {key: service(key[0], key[1], *ports_of(owner, key)) for key in record.internal_services(owner)}
        secrets = {
            key: {item: "secret" for account in owner.accounts for item in (*account.values, *account.generate)}
            for key in record.secrets(owner)
        }
        made = record.record(owner, "", record.Facts(services, (), secrets))
        assert (made.id, made.product, made.version) == (name, owner.product, owner.version)
        assert all(credentials.configuration for service in made.services for credentials in service.credentials)


def test_shipped_manifests_make_the_services_that_their_records_name() -> None:
    for name in ("gitea", "versitygw"):
        owner = folders.tool(name).description
        objects = [item for item in yaml.safe_load_all(Path(folders.tool(name).place(owner.install[0].location)).read_text()) if item]
        made = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): [port["port"] for port in item["spec"]["ports"]]
            for item in objects
            if item["kind"] == "Service"
        }
        assert {key: ports_of(owner, key) for key in record.internal_services(owner)} == made
        (pod,) = [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "StatefulSet"]
        named = {
            entry["valueFrom"]["secretKeyRef"]["name"]
            for container in (*pod["initContainers"], *pod["containers"])
            for entry in container.get("env", ())
            if "valueFrom" in entry
        }
        assert named == {account.secret for account in owner.accounts}


def ports_of(owner: description.Description, key: record.Name) -> list[int]:
    urls = [endpoint.url for each in owner.services for endpoint in each.endpoints if exposure.service_of(endpoint.url, [key[0]]) == key]
    return sorted({int(match[1]) if (match := re.search(r":(\d+)", url)) else 443 if url.startswith("https") else 80 for url in urls})


def service(namespace: str, name: str, *ports: int, labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    entries = [{"port": port, "name": "http" if port == 80 else f"p{port}"} for port in ports]
    return {
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name, "labels": labels or {}},
        "spec": {"ports": entries, **spec},
    }


def test_a_record_without_its_objects_names_each_that_is_missing() -> None:
    owner = folders.tool("versitygw").description
    with pytest.raises(errors.PermanentError) as caught:
        record.record(owner, "", record.Facts())
    assert "no service versitygw in the namespace versitygw" in caught.value.message
    assert "no Secret versitygw-account" in caught.value.message


def test_a_step_that_is_taken_back_is_the_reverse_of_the_installation() -> None:
    owner = folders.tool("kserve").description
    assert [owner.release(step) for step in owner.removal()] == ["kserve-runtimes", "kserve", "kserve-crd"]
    given = description.load("name: a\ninstall: [{type: script, location: a.sh}, {type: manifest, location: b}]\nuninstall: [{type: helm}]")
    assert [step.type for step in given.removal()] == ["helm"]
    assert [
        step.type
        for step in description.load("name: a\ninstall: [{type: script, location: a.sh}, {type: manifest, location: b}]").removal()
    ] == ["manifest"]


def test_only_a_repeated_step_takes_fields_of_others_over() -> None:
    owner = folders.tool("gitea").description
    first, again = (commands.install(owner, owner.install[0], lambda place: place, repeated=repeated) for repeated in (False, True))
    assert (set(again) - set(first), set(first) - set(again)) == ({"--force-conflicts"}, set())


def pod(name: str = "a", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": status}


READY: dict[str, Any] = {"conditions": [{"type": "Ready", "status": "True"}]}


@pytest.mark.parametrize(
    ("objects", "condition", "reason"),
    [
        ([], "ready", "no such object"),
        ([pod(**READY)], "ready", None),
        ([pod(**READY), pod("b")], "ready", "b is not ready yet"),
        ([pod(**READY), pod("job", phase="Succeeded")], "ready", None),
        ([pod("job", phase="Succeeded")], "ready", "no such object"),
        ([pod(containerStatuses=[{"state": {"waiting": {"reason": "ErrImagePull", "message": "none"}}}])], "ready", "a: ErrImagePull none"),
        ([], "delete", None),
        ([pod(**READY), pod("job", phase="Succeeded")], "delete", "a exists; job exists"),
        ([{"metadata": {"name": "a", "generation": 2}, "status": {**READY, "observedGeneration": 1}}], "ready", "a is not ready"),
        ([pod(conditions=[{"type": "Available", "status": "False", "reason": "Min", "message": "few"}])], "available", "a: Min few"),
    ],
)
def test_a_condition_is_met_by_all_objects_or_the_reason_is_given(
    objects: list[dict[str, Any]], condition: str, reason: str | None
) -> None:
    found = waiting.unmet(objects, condition)
    assert found is None if reason is None else reason in (found or ""), found


def test_addresses_outside_come_from_load_balancers_ingresses_and_routes() -> None:
    balanced = service("ml", "a", 443, 9000) | {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}}
    rules = [
        {"host": "a.example.com", "http": {"paths": [{"path": "/store", "backend": {"service": {"name": "a", "port": {"number": 9000}}}}]}}
    ]
    ingress = {
        "metadata": {"namespace": "ml"},
        "spec": {
            "tls": [{"hosts": ["a.example.com"]}],
            "rules": [*rules, {"host": "*.example.com", **rules[0]}, {"http": rules[0]["http"]}],
        },
    }
    ingress["spec"]["rules"][1] = {"host": "*.example.com", "http": rules[0]["http"]}  # type: ignore[index]
    route = {
        "metadata": {"namespace": "routes"},
        "spec": {
            "hostnames": ["r.example.com"],
            "parentRefs": [{"sectionName": "https"}],
            "rules": [{"backendRefs": [{"name": "a", "namespace": "ml", "port": 9000}]}],
        },
    }
    virtual = {
        "metadata": {"namespace": "ml"},
        "spec": {
            "hosts": ["v.example.com", "*"],
            "http": [{"route": [{"destination": {"host": "a.ml.svc.cluster.local", "port": {"number": 9000}}}]}],
        },
    }
    assert exposure.exposures([balanced], [ingress], [route], [virtual]) == [
        exposure.Exposure("ml", "a", "https://lb.example.com", 443),
        exposure.Exposure("ml", "a", "http://lb.example.com:9000", 9000),
        exposure.Exposure("ml", "a", "https://a.example.com/store", 9000),
        exposure.Exposure("ml", "a", "https://r.example.com", 9000),
        exposure.Exposure("ml", "a", "http://v.example.com", 9000),
    ]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://a.ml.svc.cluster.local:9000", ("ml", "a")),
        ("http://a.ml.svc", ("ml", "a")),
        ("http://a.ml:9000/x", ("ml", "a")),
        ("http://a.example", None),
        ("http://a", None),
        ("https://a.ml.example.com", None),
        ("http://[a", None),
        ("http://a.ml.svc:99999", None),
    ],
)
def test_an_internal_address_names_its_service(url: str, found: tuple[str, str] | None) -> None:
    assert exposure.service_of(url, ["ml"]) == found


def test_tools_are_recognised_by_labels_and_apis() -> None:
    services = [
        service("b", "gitea-http", 3000, labels={"app.kubernetes.io/name": "gitea"}, clusterIP="None"),
        service("a", "mlflow", 80, labels={"app": "mlflow", "app.kubernetes.io/version": "3.15.1"}),
        service("c", "mlflow", 80, labels={"app.kubernetes.io/name": "mlflow"}),
        service("c", "mlflow-headless", 80, labels={"app.kubernetes.io/name": "mlflow"}, clusterIP="None"),
        service("c", "console", 9090, labels={"app": "minio"}),
        service("fuseml", "s3", 7070, labels={"app.kubernetes.io/name": "versitygw", "app.kubernetes.io/part-of": "fuseml"}),
        service("fuseml", "mlflow", 5000, labels={"app.kubernetes.io/name": "mlflow", "app.kubernetes.io/part-of": "fuseml"}),
        service("d", "other", 80),
    ]
    definitions: dict[str, Any] = {
        "seldondeployments.machinelearning.seldon.io": {},
        "services.serving.knative.dev": {"metadata": {"labels": {"app.kubernetes.io/version": "1.22.0"}}},
    }
    found = findings.find(findings.Snapshot(services, definitions), "east")
    assert [(each.draft.id, each.draft.version, each.internal) for each in found] == [
        ("seldon-core", "", findings.KUBERNETES),
        ("knative", "1.22.0", findings.KUBERNETES),
        ("mlflow", "3.15.1", "http://mlflow.a.svc.cluster.local"),
        ("gitea", "", "http://gitea-http.b.svc.cluster.local:3000"),
        ("mlflow-c", "", "http://mlflow.c.svc.cluster.local"),
        ("mlflow-fuseml", "", "http://mlflow.fuseml.svc.cluster.local:5000"),
    ]
    assert {each.draft.zone for each in found} == {"east"}
    known = extension.Extension.model_validate(
        {"id": "own", "product": "mlflow", "zone": "east", "services": [{"endpoints": [{"url": "http://mlflow.a:80/"}]}]}
    )
    assert [findings.registered(each, [known]) for each in found] == ["", "", "own", "", "", ""]
    assert findings.registered(found[2], [known.model_copy(update={"zone": "west"})]) == ""


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["metadata", "spec", "status"]), st.dictionaries(st.sampled_from(["labels", "name", "ports"]), st.none())
        ),
        max_size=3,
    )
)
def test_objects_with_empty_fields_are_no_tools(objects: list[dict[str, Any]]) -> None:
    assert findings.find(findings.Snapshot(objects), "") == []
    assert exposure.exposures(objects, objects, objects, objects) == []
