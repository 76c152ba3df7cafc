"""The six workflows that the original FuseML published: unchanged they are valid, planned with the built-in steps, and rendered.

The documents of `tests/golden/workflows` have their shapes. `FUSEML_PUBLISHED_EXAMPLES` is a checkout of the original's examples with the documents
themselves.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import pytest

from fuseml.domain import errors, plans
from fuseml.domain.plans import serving_access
from fuseml.domain.registry import extension, registry
from fuseml.engines.local import implementations
from fuseml.engines.tekton import render, settings
from fuseml.servings import record
from fuseml.store import extensions
from tests.component import triggering
from tests.unit import tekton_plans

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/workflows"
PUBLISHED = pathlib.Path(os.environ.get("FUSEML_PUBLISHED_EXAMPLES", "/nowhere"))
SERVED_BY = {
    "mlflow-e2e": {"predictor": "kserve-api"},
    "mlflow-intel-e2e": {"predictor": "kserve-api"},
    "mlflow-multi-e2e": {"ovms-predictor": "ovms-operator", "kserve-predictor": "kserve-api", "seldon-predictor": "seldon-core-api"},
    "mlflow-ovms-e2e": {"predictor": "ovms-operator"},
    "mlflow-seldon-e2e": {"predictor": "seldon-core-api"},
    "mlflow-seldon-triton-e2e": {"predictor": "seldon-core-api"},
}
COMMIT = "5f2d7c1e9a40b3866c1d2f0e7a9b4c3d2e1f0a9b"
ENVIRONMENT = "fuseml.local/mlflow-trainer:host"


def service(id: str, resource: str, category: str, **configuration: str) -> dict[str, object]:
    url = next(iter(configuration.values()), "http://kubernetes.default.svc")
    return {
        "id": id,
        "resource": resource,
        "category": category,
        "endpoints": [{"url": url, "type": "internal"}],
        "configuration": configuration,
    }


# As the original's installer registers them.
RECORDS: list[dict[str, object]] = [
    {
        "id": "mlflow",
        "product": "mlflow",
        "version": "1.20.2",
        "services": [
            service("mlflow-tracking", "mlflow-tracking", "experiment-tracking", MLFLOW_TRACKING_URI="http://mlflow.mlflow"),
            {
                **service("mlflow-store", "s3", "model-store", MLFLOW_S3_ENDPOINT_URL="http://mlflow-minio.mlflow:9000"),
                "credentials": [{"id": "s3", "configuration": {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "canary-secret"}}],
            },
        ],
    },
    {"id": "kserve", "product": "kserve", "version": "0.7.0", "services": [service("kserve", "kserve-api", "prediction-serving")]},
    {"id": "seldon", "product": "seldon-core", "services": [service("seldon", "seldon-core-api", "prediction-serving")]},
    {"id": "ovms", "product": "openvino-model-server", "services": [service("ovms", "ovms-operator", "prediction-serving")]},
]


class World(triggering.World):
    """With the records of the original's installer, and that of FuseML."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        with self.store.write() as session:
            for document in RECORDS:
                draft = registry.create(extension.Extension.model_validate(document), triggering.NOON, lambda prefix: f"{prefix}-1")
                extensions.add(session, extension.map_secrets(draft, self.keyring.seal), triggering.NOON)
        record.register(self.store, "http://applications.fuseml")
        self.push(COMMIT)

    def findings(self, document: str) -> list[dict[str, Any]]:
        answer = self.functions["workflows"].test_client().post("/workflows?dry_run=true&project=p", data=document)
        assert answer.status_code == 200, answer.text
        return list(answer.get_json()["findings"])

    def plan(self, name: str, document: str) -> plans.Plan:
        self.workflow(document)
        asked = {"project": "p", "codeset": "code", "commit": COMMIT}
        answer = self.functions["workflows"].test_client().post(f"/workflows/{name}/plan", json=asked)
        assert answer.status_code == 200, answer.text
        return plans.Plan.model_validate_json(answer.data)


def documents() -> list[Any]:
    shapes = [pytest.param(GOLDEN / f"{name}.yaml", id=name) for name in SERVED_BY]
    absent = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs FUSEML_PUBLISHED_EXAMPLES, a checkout of the original's examples")
    return [
        *shapes,
        *(pytest.param(PUBLISHED / f"workflows/{name}.yaml", id=f"published {name}", marks=absent) for name in SERVED_BY),
    ]


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize("path", documents())
def test_a_published_workflow_is_planned_with_the_built_in_steps_and_rendered(path: pathlib.Path, world: World) -> None:
    document = path.read_text()

    findings = world.findings(document)
    plan = world.plan(path.stem, document)

    assert [finding for finding in findings if finding["level"] == "error"] == []
    served = {step.name: step for step in plan.steps if step.name in SERVED_BY[path.stem]}
    for name, resource in SERVED_BY[path.stem].items():
        variables = {variable.name: variable.value for variable in served[name].variables}
        assert variables[serving_access.VARIABLE] == plans.text(resource)
        assert variables["FUSEML_API_URL"] == plans.text("http://applications.fuseml")
        assert variables["FUSEML_API_TOKEN"] == (plans.step_token(name),)
        assert variables["FUSEML_PREDICTOR"] == plans.text("openvino") if resource == "ovms-operator" else "FUSEML_PREDICTOR" in variables
    on_this_machine = implementations.Implementations({}, path.parent, {})
    for step in plan.steps:
        image = "".join(part.text if isinstance(part, plans.TextPart) else "" for part in step.image) or ENVIRONMENT
        if "ovms-converter" in image:
            warned = [
                finding["message"] for finding in findings if finding["level"] == "warning" and "ovms-converter" in finding["message"]
            ]
            assert "reads ONNX and TensorFlow's SavedModel itself" in warned[0]
            with pytest.raises(errors.PermanentError, match=r"cannot run the image.*ovms-converter.*remove the step"):
                on_this_machine.find(image, "p")
        elif image.startswith("ghcr.io/fuseml/mlflow-trainer"):
            # The name of an environment that a builder made: the shape gives it without a builder.
            assert path.parent == GOLDEN
        else:
            assert isinstance(on_this_machine.find(image, "p"), implementations.Native), image
    rendered = render.render(plan, tekton_plans.secrets_of(plan), settings.Settings())
    assert "kserve-predictor:" not in str(rendered)
    assert "ovms-predictor:" not in str(rendered)


@pytest.mark.parametrize("name", SERVED_BY)
def test_the_lint_notes_each_image_that_a_built_in_step_replaces(name: str, world: World) -> None:
    findings = world.findings((GOLDEN / f"{name}.yaml").read_text())

    noted = [finding["message"] for finding in findings if finding["level"] == "note" and "takes the place" in finding["message"]]
    assert len([text for text in noted if "ghcr.io/fuseml/predictor:v1 takes the place" in text]) == len(SERVED_BY[name])
