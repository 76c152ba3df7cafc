"""The builder on a real cluster builds an image in an unprivileged pod; the image is pulled and replaces the trainer's image.

FUSEML_TEST_IMAGE_BUILDER and FUSEML_TEST_IMAGE_TRAINER belong together. They and the built images are in the registry CLUSTER_REGISTRY,
which uses plain HTTP. Pushed images are not removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract import engines, on_cluster
from tests.images import image

from .deployment import REGISTRY

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

REPOSITORY = f"{REGISTRY}/fuseml-test/environments-{os.urandom(4).hex()}"

# Pods reach no package index, so the script creates the wheels of the package and of those that the builder adds.
BUILD = """
mkdir /tmp/codeset && cd /tmp/codeset
echo "$REQUIREMENT" > requirements.txt
python - <<END
import zipfile
for name, module, requires in [("tiny-ml", "tiny_ml", ""), ("mlflow", "mlflow", "Requires-Dist: pyyaml\\n"), ("pyyaml", "yaml", "")]:
    stem = name.replace("-", "_") + "-1.2.0"
    info = stem + ".dist-info"
    with zipfile.ZipFile(stem + "-py3-none-any.whl", "w") as wheel:
        wheel.writestr(module + ".py", "ANSWER = 42")
        wheel.writestr(info + "/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.2.0\\n{requires}")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "".join(f"{path},,\\n" for path in [module + ".py", info + "/METADATA", info + "/WHEEL", info + "/RECORD"]))
END
FUSEML_INDEX_URL=none FUSEML_FIND_LINKS=. run
"""
USE = """
python -I -c "import tiny_ml; print(tiny_ml.ANSWER, end=' ')" > "$FUSEML_ENV_RESULTS/answer"
command -v run >> "$FUSEML_ENV_RESULTS/answer"
"""


@pytest.fixture
def under_test(tmp_path: Path) -> Iterator[engines.UnderTest]:
    variables = {"FUSEML_TRAINER_IMAGE": image("TRAINER"), "FUSEML_IMAGE_REPOSITORY": REPOSITORY, "FUSEML_PLAIN_REGISTRIES": REGISTRY}
    with on_cluster.tekton_engine(tmp_path, variables) as engine:
        yield engine


def run(under_test: engines.UnderTest, requirement: str, use: str) -> tuple[str, str, str]:
    """The image of the builder, the builder's log, and the output of a step in that image."""
    build = engines.shell("build", BUILD, image=image("BUILDER"), outputs=["image"], env={"REQUIREMENT": requirement})
    answer = engines.shell("use", use, outputs=["answer"], needs=("build",)).model_copy(update={"image": engines.out("build", "image")})
    plan = engines.make_plan(build, answer)
    under_test.engine.submit(plan, {})
    result = under_test.inbox.finished(plan.id)
    log = under_test.engine.logs(plan.id, "build").data.decode()
    assert result.run.state == "succeeded", f"{result.run.cause}\n{log}"
    return result.steps["build"].outputs["image"], log, result.steps["use"].outputs["answer"]


def test_an_image_is_built_once_and_runs_instead_of_the_trainers_image(under_test: engines.UnderTest) -> None:
    image, log, answer = run(under_test, "tiny-ml==1.2.0", USE)
    assert image.startswith(f"{REPOSITORY}@sha256:"), log
    assert answer == "42 /opt/fuseml/environment/bin/run"
    again, log, _ = run(under_test, "# the same\ntiny-ml == 1.2.0", USE)
    assert again == image
    assert "exists; nothing to build" in log


def test_the_builder_returns_the_trainers_image_when_it_meets_the_requirements(under_test: engines.UnderTest) -> None:
    built, _, answer = run(under_test, "mlflow>=3", 'command -v run > "$FUSEML_ENV_RESULTS/answer"')
    assert (built, answer) == (image("TRAINER"), "/usr/local/bin/run")
