"""The rights of a function in the cluster are exactly those that its code uses, within the namespace of the workloads."""

from __future__ import annotations

import ast
import functools
import pathlib
import re
from collections.abc import Mapping

from fuseml.engines.tekton import Settings
from fuseml.runtime import catalog
from tests.contract.manifests import MANIFESTS, ROOT, documents, each_function, service

TEKTON = ROOT / "shared/fuseml/engines/tekton"
TRAINING = ROOT / "infra/kubernetes/training/training.yaml"
SERVINGS = ROOT / "shared/fuseml/servings"
PORTS = {"knative": "KnativeServing", "kserve": "KServeServing", "seldon": "SeldonServing", "seldon_v2": "SeldonV2Serving"}
"""Folder of a serving -> its class."""


def calls(tree: ast.AST, *owner: str) -> set[str]:
    """The methods that the code calls on `owner`, or on an attribute of that name such as `self.owner`."""
    names = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            value = node.value
            name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
            names |= {node.attr} if name in owner else set()
    return names


def methods(path: pathlib.Path, owner: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner).body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


@functools.cache
def rights_of_calls(folder: pathlib.Path) -> Mapping[str, set[tuple[str, str]]]:
    """Method of `Cluster` -> its (verb, resource) pairs, as its error messages name them. An apply may also create the object."""
    shared = methods(SERVINGS / "workloads.py", "Workloads") if folder.parent == SERVINGS else {}
    named = {
        name: set(re.findall(r"_refusals\('(\w+)', '([\w./]+)'", ast.unparse(node)))
        for name, node in (shared | methods(folder / "cluster.py", "Cluster")).items()
    }
    return {
        name: rights | {("create", resource) for _, resource in rights} if name.startswith("apply") else rights
        for name, rights in named.items()
    }


def needed_rights(function: catalog.Function) -> set[tuple[str, str]]:
    """The (verb, resource) pairs that a function needs for its calls of engine and servings."""
    rights = rights_of_port(function, "engine", TEKTON / "engine.py", "TektonEngine")
    for folder, port in PORTS.items():
        rights |= rights_of_port(function, "serving", SERVINGS / folder / "serving.py", port)
    return rights


def test_every_serving_of_a_cluster_is_among_those_whose_rights_are_derived() -> None:
    assert {path.parent.name for path in SERVINGS.glob("*/serving.py")} == PORTS.keys()


def rights_of_port(function: catalog.Function, owner: str, path: pathlib.Path, port: str) -> set[tuple[str, str]]:
    """The rights that the calls of a function on `owner` need; `port` is the class of `owner` in `path`."""
    engine = methods(path, port)
    readers = {name: ast.parse((TEKTON / f"{name}.py").read_text()) for name in ("causes", "logs")}
    trees = [ast.parse(source.read_text()) for source in (ROOT / "functions" / function.name).glob("*.py")]
    todo = {name for tree in trees for name in calls(tree, owner)} & engine.keys()
    done, rights = set[str](), set[tuple[str, str]]()
    while todo:
        name = todo.pop()
        done.add(name)
        todo |= (calls(engine[name], "self") & engine.keys()) - done
        used = calls(engine[name], "_cluster")
        for module, tree in readers.items():
            used |= calls(tree, "cluster") if calls(engine[name], module) else set()
        rights |= {right for call in used for right in rights_of_calls(path.parent).get(call, ())}
    return rights


def granted(account: str) -> set[tuple[str, str]]:
    accounts = documents(ROOT / "infra/kubernetes/accounts.yaml")
    bound = {
        document["roleRef"]["name"]
        for document in accounts
        if document["kind"] == "RoleBinding" and {"kind": "ServiceAccount", "name": account, "namespace": "fuseml"} in document["subjects"]
    }
    return {
        (verb, f"{resource}.{group}" if group else resource)
        for document in accounts
        if document["kind"] == "Role" and document["metadata"]["name"] in bound
        for rule in document["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@each_function
def test_a_function_has_exactly_the_rights_that_its_code_uses(function: catalog.Function) -> None:
    account = service(function)["spec"]["template"]["spec"]["serviceAccountName"]
    assert granted(account) == needed_rights(function)
    assert account in ("functions", function.service)


def test_rights_end_at_the_namespaces_of_workloads_and_trainings() -> None:
    kinds = {document["kind"] for _, document in MANIFESTS}
    assert not {"ClusterRole", "ClusterRoleBinding"} & kinds
    for path, document in MANIFESTS:
        if document["kind"] in ("Role", "RoleBinding"):
            assert document["metadata"]["namespace"] in ("fuseml-workloads", "fuseml-training"), path
            assert "*" not in str(document), path


def test_an_account_without_rights_gets_no_token() -> None:
    for document in documents(ROOT / "infra/kubernetes/accounts.yaml"):
        if document["kind"] == "ServiceAccount":
            name = document["metadata"]["name"]
            assert document.get("automountServiceAccountToken", True) is bool(granted(name)), name


def test_no_pod_has_the_account_of_trainings() -> None:
    [account] = [document for document in documents(TRAINING) if document["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False
    [rules] = [document["rules"] for document in documents(TRAINING) if document["kind"] == "Role"]
    assert not any(verb in ("list", "get", "watch") for rule in rules if "secrets" in rule["resources"] for verb in rule["verbs"])


def test_the_account_of_runs_is_the_one_that_the_engine_names() -> None:
    accounts = {
        (document["metadata"]["namespace"], document["metadata"]["name"])
        for _, document in MANIFESTS
        if document["kind"] == "ServiceAccount"
    }
    assert ("fuseml-workloads", Settings().service_account) in accounts
