"""Workflow documents of several tests, and plans of them with fictitious commits and bindings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fuseml.domain import errors, plans, workflows
from fuseml.domain.plans import artifact_planning, planning, run_inputs
from fuseml.domain.registry.selector import Binding, Selector
from fuseml.domain.workflows import loading

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "tests/golden/workflows").glob("*.yaml"))
SHIPPED = sorted((ROOT / "shared/fuseml/examples/workflows").glob("*.yaml"))
COMMIT = "5f2d7c1e9a40b3866c1d2f0e7a9b4c3d2e1f0a9b"
VERSION = "sha256:" + "a" * 64


def named(name: str) -> workflows.Workflow:
    """The example of that name."""
    return loading.load((ROOT / f"tests/golden/workflows/{name}.yaml").read_text())


def step(body: str = "", *, header: str = "inputs: [{name: predictor, default: auto}, {name: code, type: codeset}]") -> str:
    """A document with one step, `train`; `body` holds more of its fields, as lines without indentation."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"name: example\n{header}\nsteps:\n  - name: train\n    image: registry.example.com/trainer:1\n{lines}"


def binding(name: str, **fields: object) -> Binding:
    """The binding of a selector: by default an object store with two secret keys."""
    defaults: dict[str, object] = {
        "name": name,
        "extension_id": "mlflow-0001",
        "service_id": "mlflow-store",
        "service_resource": "s3",
        "service_category": "model-store",
        "product": "mlflow",
        "version": "1.19.0",
        "zone": "cluster-alpha",
        "url": "http://mlflow-minio.mlflow:9000",
        "endpoint_type": "internal",
        "credentials_id": "default-s3-account",
        "credentials_scope": "global",
        "configuration": {"MLFLOW_S3_ENDPOINT_URL": "http://mlflow-minio.mlflow:9000"},
        "secret_keys": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
        "revision": 1,
    }
    return Binding.model_validate({**defaults, **fields})


class Stores:
    """Stores of which everything is known: each artifact is where its name says, and each selector finds a service of its own."""

    def find(self, text: str, wanted: artifact_planning.Wanted, *, opens: bool) -> artifact_planning.Held:
        if "gone" in text:
            raise errors.NotFoundError(f"there is no artifact {text}")
        exact = text.replace("@latest", f"/{VERSION}")
        holder = self.reader((opens and wanted) or Selector())
        return artifact_planning.Held(text.partition("://")[0], exact, text if "@" in text else "", "s3://bucket/x", holder)

    def copied_to(self, kind: str, holder: Binding, wanted: Selector) -> Binding | None:
        target = self.reader(wanted)
        return None if (target.extension_id, target.service_id) == (holder.extension_id, holder.service_id) else target

    def reader(self, wanted: Selector) -> Binding:
        service = "store" if wanted == Selector(extension_id=wanted.extension_id) else f"store of {wanted.model_dump_json()}"
        more = {"service_category": "artifact-store", "service_resource": "s3", "url": "http://minio:9000"}
        return binding("store", extension_id=wanted.extension_id or "minio", service_id=service, **more)

    def mirror(self, kind: str) -> Selector | None:
        return None

    def writer(self, kind: str, wanted: artifact_planning.Wanted) -> Binding:
        return self.reader(wanted or Selector(extension_id=f"for-{kind}"))


def plan_of(
    workflow: workflows.Workflow,
    *,
    inputs: Mapping[str, str] | None = None,
    bindings: Mapping[str, Mapping[str, Binding]] | None = None,
) -> plans.Plan:
    """The plan of a workflow on one commit for every codeset and, unless given, the same store for every selector."""
    version = planning.CodesetVersion(
        project="workspace",
        codeset="mlflow-test",
        url="http://git.example.com/workspace/mlflow-test.git",
        ref="refs/heads/main",
        commit=COMMIT,
    )
    stores = {step.name: {item.name: binding(item.name) for item in step.extensions} for step in workflow.steps}
    return planning.build(
        workflow,
        revision=3,
        run_id="0123456789abcdef0123456789abcdef",
        run_name=f"{workflow.name}-7",
        project="workspace",
        codesets=dict.fromkeys(run_inputs.codesets(workflow), version),
        inputs=inputs or {},
        bindings=stores if bindings is None else bindings,
        stores=Stores(),
    )


def variables(step: plans.StepPlan) -> dict[str, plans.Value]:
    """A step's environment by name."""
    return {variable.name: variable.value for variable in step.variables}
