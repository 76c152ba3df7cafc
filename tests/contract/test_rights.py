"""A function may do in the cluster exactly what its code does, and nothing outside the namespace of the workloads."""

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
KNATIVE = ROOT / "shared/fuseml/servings/knative"


def calls(tree: ast.AST, *owner: str) -> set[str]:
    """The methods that are called on `owner`, or on `self.owner` and the like."""
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            value = node.value
            name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
            found |= {node.attr} if name in owner else set()
    return found


def methods(path: pathlib.Path, owner: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse(path.read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner).body
    return {node.name: node for node in body if isinstance(node, ast.FunctionDef)}


@functools.cache
def asked_of_kubernetes(folder: pathlib.Path) -> Mapping[str, set[tuple[str, str]]]:
    """Method of `Cluster` -> (verb, resource) that it asks for, as it says in its own refusals. To apply is to create what is not there."""
    found = {
        name: set(re.findall(r"_refusals\('(\w+)', '([\w./]+)'", ast.unparse(node)))
        for name, node in methods(folder / "cluster.py", "Cluster").items()
    }
    return {
        name: rights | {("create", resource) for _, resource in rights} if name.startswith("apply") else rights
        for name, rights in found.items()
    }


def needed_rights(function: catalog.Function) -> set[tuple[str, str]]:
    """(verb, resource) of what a function makes the engine and the serving ask for."""
    return asked_by(function, "engine", TEKTON / "engine.py", "TektonEngine") | asked_by(
        function, "serving", KNATIVE / "serving.py", "KnativeServing"
    )


def asked_by(function: catalog.Function, owner: str, path: pathlib.Path, port: str) -> set[tuple[str, str]]:
    """The rights behind what a function calls on `owner`, a `port` of ours."""
    engine = methods(path, port)
    logs = ast.parse((TEKTON / "logs.py").read_text())
    trees = [ast.parse(source.read_text()) for source in (ROOT / "functions" / function.name).glob("*.py")]
    todo = {name for tree in trees for name in calls(tree, owner)} & engine.keys()
    done, rights = set[str](), set[tuple[str, str]]()
    while todo:
        name = todo.pop()
        done.add(name)
        todo |= (calls(engine[name], "self") & engine.keys()) - done
        used = calls(engine[name], "_cluster") | (calls(logs, "cluster") if "read" in calls(engine[name], "logs") else set())
        rights |= {right for call in used for right in asked_of_kubernetes(path.parent).get(call, ())}
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
def test_a_function_may_do_exactly_what_its_code_does(function: catalog.Function) -> None:
    account = service(function)["spec"]["template"]["spec"]["serviceAccountName"]
    assert granted(account) == needed_rights(function)
    assert account in ("functions", function.service)


def test_rights_end_at_the_namespace_of_the_workloads() -> None:
    kinds = {document["kind"] for _, document in MANIFESTS}
    assert not {"ClusterRole", "ClusterRoleBinding"} & kinds
    for path, document in MANIFESTS:
        if document["kind"] in ("Role", "RoleBinding"):
            assert document["metadata"]["namespace"] == "fuseml-workloads", path
            assert "*" not in str(document), path


def test_who_has_no_rights_gets_no_token() -> None:
    for document in documents(ROOT / "infra/kubernetes/accounts.yaml"):
        if document["kind"] == "ServiceAccount":
            name = document["metadata"]["name"]
            assert document.get("automountServiceAccountToken", True) is bool(granted(name)), name


def test_the_account_of_runs_is_the_one_that_the_engine_names() -> None:
    accounts = {
        (document["metadata"]["namespace"], document["metadata"]["name"])
        for _, document in MANIFESTS
        if document["kind"] == "ServiceAccount"
    }
    assert ("fuseml-workloads", Settings().service_account) in accounts
