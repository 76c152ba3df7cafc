"""Plans that cover the features of plans, for the rendering of the Tekton engine."""

from __future__ import annotations

from collections.abc import Callable

from fuseml.domain import plans
from fuseml.domain.plans import conversions, image_building, planning, replan
from fuseml.domain.registry import selector
from fuseml.domain.runnables import descriptor
from fuseml.domain.runnables import steps as runnable_steps
from fuseml.domain.workflows import loading
from tests.contract import engines
from tests.unit import workflow_examples

CANARY = "canary-7f3a9c51e2"
RUN_ID = "0123456789abcdef0123456789abcdef"


def make(*steps: plans.StepPlan, **more: object) -> plans.Plan:
    """A plan of these steps with a fixed id."""
    defaults: dict[str, object] = {"id": RUN_ID, "run": "example-7", "project": "workspace", "workflow": "example", "revision": 3}
    return plans.Plan.model_validate({**defaults, "steps": steps, **more})


def codeset(name: str = "mlflow-test", path: str = "/project", **more: str) -> plans.Checkout:
    """A checkout of a codeset."""
    defaults = {
        "name": name,
        "project": "workspace",
        "codeset": name,
        "url": f"http://git.example.com/workspace/{name}.git",
        "ref": "refs/heads/main",
        "commit": workflow_examples.COMMIT,
        "path": path,
    }
    return plans.Checkout.model_validate({**defaults, **more})


def secrets_of(plan: plans.Plan) -> dict[str, str]:
    """The secrets of a plan; each contains the canary."""
    return {part.ref: f"{CANARY}-{part.key}" for part in plans.secret_refs(plan)}


def _shipped(name: str = "mlflow-e2e", **inputs: str) -> plans.Plan:
    [document] = [file for file in workflow_examples.SHIPPED if file.stem == name]
    return workflow_examples.plan_of(loading.load(document.read_text()), inputs=inputs)


def _gate() -> plans.Plan:
    """The first execution: the predictor may need an approval."""
    return replan.partition(_shipped("mlflow-gate"), 1, ["builder", "trainer", "evaluator"], {})


def _secrets() -> plans.Plan:
    key, user = engines.secret("AWS_SECRET_ACCESS_KEY"), engines.secret("AWS_ACCESS_KEY_ID")
    login = (*plans.text("https://"), user, *plans.text(":"), key, *plans.text("@store.example.com"))
    more: dict[str, plans.Value | str] = {"AWS_SECRET_ACCESS_KEY": (key,), "STORE": login, "PRICE": "5$ or $(HOME)"}
    return make(engines.shell("upload", "upload --all", image="registry.example.com/upload:1", env=more))


def bucket() -> plans.Store:
    """A bucket with one account."""
    return plans.Store(
        extension="minio",
        service="store",
        resource="s3",
        url="http://minio.store:9000",
        variables=(
            plans.Variable(name="FUSEML_ARTIFACTS_BUCKET", value=plans.text("artifacts/$(HOME)")),
            *(plans.Variable(name=key, value=(engines.secret(key),)) for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
        ),
    )


def _credential_files() -> plans.Plan:
    """A secret as a file and one as text, also of a step that writes a Dockerfile."""
    key, token = engines.secret("GOOGLE_APPLICATION_CREDENTIALS"), engines.secret("TOKEN")
    file = key.model_copy(update={"path": "gcloud/key.json"})
    env: dict[str, plans.Value | str] = {key.key: (file,), "TOKEN": (token,), "ALSO": (*plans.text("at "), file)}
    builder = engines.shell("builder", "", image="registry.example.com/builder:1", env={key.key: (file,)}, command=(plans.text("write"),))
    image = plans.Output(name="image", image=plans.ImageBuild(name=plans.text("registry.example.com/made:1")))
    return make(
        engines.shell("copy", "gsutil ls", image="registry.example.com/gsutil:1", env=env),
        builder.model_copy(update={"checkouts": (codeset(),), "outputs": (image,)}),
    )


def _artifacts() -> plans.Plan:
    """A dataset goes in, a model and an anonymous artifact come out; the next step reads both, and has the account of the bucket."""
    dataset = plans.Fetch(
        name="data",
        address=plans.text("dataset://workspace/patients/sha256:" + "a" * 64),
        asked="dataset://workspace/patients@latest",
        uri=plans.text("s3://artifacts/patients"),
        path="/data",
        store=bucket(),
    )
    train = engines.shell(
        "train",
        "fit /data out/model",
        image="registry.example.com/fit:1",
        outputs=["metrics", "model", "folds", "model-uri"],
        env={"FUSEML_DATA": "/data"},
        fetches=(dataset,),
        collects=(
            plans.Collect(output="model", kind="model", name="churn", path="out/model", format="onnx", store=bucket()),
            plans.Collect(output="folds", kind="dataset", path="folds", store=bucket()),
        ),
    )
    refer = plans.Fetch(
        name="model",
        address=engines.out("train", "model"),
        uri=engines.out("train", "model-uri"),
        store=bucket().model_copy(update={"variables": ()}),
    )
    use = engines.shell(
        "use",
        "use /folds",
        image="registry.example.com/use:1",
        outputs=["report"],
        env={"FUSEML_MODEL_URI": engines.out("train", "model-uri"), "AWS_SECRET_ACCESS_KEY": (engines.secret("AWS_SECRET_ACCESS_KEY"),)},
        checkouts=(codeset(),),
        fetches=(refer, plans.Fetch(name="folds", address=engines.out("train", "folds"), path="/folds", store=bucket())),
        collects=(plans.Collect(output="report", kind="dataset", name="reports/churn", path="report.html", store=bucket()),),
        needs=("train",),
    )
    return make(train, use, outputs={"model": engines.out("train", "model")})


def _conversion() -> plans.Plan:
    """A model is copied to another store before a step that reads it from there."""
    shelf = bucket().model_copy(update={"extension": "shelf", "url": "http://shelf:9000"})
    train = engines.shell(
        "train",
        "fit out/model",
        image="registry.example.com/fit:1",
        outputs=["model"],
        collects=(plans.Collect(output="model", kind="model", name="churn", path="out/model", store=bucket()),),
    )
    copy = plans.StepPlan(
        name="serve-model-copy",
        image=plans.text(conversions.CONVERTER),
        fetches=(plans.Fetch(name="artifact", address=engines.out("train", "model"), store=bucket()),),
        outputs=(plans.Output(name=conversions.COPY), plans.Output(name=conversions.COPY_URI)),
        collects=(plans.Collect(output=conversions.COPY, kind="model", path="", store=shelf, copied=True),),
        needs=("train",),
    )
    refer = plans.Fetch(
        name="model",
        address=engines.out("train", "model"),
        uri=engines.out("serve-model-copy", conversions.COPY_URI),
        store=shelf.model_copy(update={"variables": ()}),
    )
    serve = engines.shell(
        "serve",
        "serve",
        image="registry.example.com/serve:1",
        env={"FUSEML_MODEL_URI": engines.out("serve-model-copy", conversions.COPY_URI)},
        fetches=(refer,),
        needs=("train", "serve-model-copy"),
    )
    return make(train, copy, serve)


def _texts() -> plans.Plan:
    script = 'echo "$(params.x)" "$(date)"\n'
    command = ("sh", "-c", "echo $(date) $(context.taskRun.name)")
    return make(
        engines.shell("carried", script, image="registry.example.com/tool:1", env={"X": "$(params.x)", "Y": "at $(date)"}),
        plans.StepPlan(name="command", image=plans.text("registry.example.com/tool:1"), command=tuple(map(plans.text, command))),
    )


def _conditions() -> plans.Plan:
    output = {"input": engines.out("ask", "verdict"), "values": [plans.text("good"), plans.text("better")]}
    constant = {"input": plans.text("main"), "operator": "in", "values": [plans.text("main")]}
    never = {"input": plans.text("a"), "operator": "notin", "values": [plans.text("a")]}
    return make(
        engines.shell("ask", "decide", image="registry.example.com/ask:1", outputs=["verdict"]),
        engines.shell("deploy", "deploy", image="registry.example.com/deploy:1", needs=("ask",), when=(output, constant)),
        engines.shell("announce", "announce", image="registry.example.com/tool:1", needs=("deploy",)),
        engines.shell("never", "true", image="registry.example.com/tool:1", when=(never,)),
    )


def _devices() -> plans.Plan:
    gpus = {"requests": {"cpu": "4"}, "limits": {"memory": "8Gi", "nvidia.com/gpu": "2"}}
    train = engines.shell("train", "train", image="registry.example.com/train:1", checkouts=(codeset(),), resources=gpus)
    equal = {"requests": {"gpu.intel.com/i915": "1"}, "limits": {"gpu.intel.com/i915": "1", "amd.com/gpu": "0"}}
    return make(train, engines.shell("render", "render", image="registry.example.com/tool:1", needs=("train",), resources=equal))


def _limits() -> plans.Plan:
    resources = {"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}}
    train = engines.shell("train", "train", image="registry.example.com/train:1", retries=2, timeout=5400, resources=resources)
    return make(train, engines.shell("report", "report", image="registry.example.com/tool:1", needs=("train",)), timeout=21600)


def _image() -> plans.Plan:
    built = plans.ImageBuild(
        name=plans.text("registry.example.com/mlflow/test:5f2d7c1e"), dockerfile=plans.text("/project/.fuseml/Dockerfile")
    )
    builder = engines.shell("builder", "", image="registry.example.com/builder:1", checkouts=(codeset(),))
    builder = builder.model_copy(update={"outputs": (plans.Output(name="environment", image=built),)})
    trainer = engines.shell(
        "trainer", "train", image="registry.example.com/mlflow/test:5f2d7c1e", needs=("builder",), checkouts=(codeset(),)
    )
    return make(builder, trainer, outputs={"image": built.name})


def _image_with_dockerfile_from_step() -> plans.Plan:
    key = engines.secret("AWS_SECRET_ACCESS_KEY")
    built = plans.Output(
        name="environment", image=plans.ImageBuild(name=(*plans.text("registry.example.com/test:"), *engines.out("tag", "tag")))
    )
    resources = {"limits": {"memory": "4Gi"}}
    env: dict[str, plans.Value | str] = {"BASE": "python:3.12", "STORE": (*plans.text("key="), key)}
    builder = engines.shell("builder", "", image="registry.example.com/builder:1", checkouts=(codeset(),), env=env, resources=resources)
    return make(
        engines.shell("tag", "tag", image="registry.example.com/tool:1", outputs=["tag"]),
        builder.model_copy(update={"outputs": (built,), "needs": ("tag",), "args": (plans.text("--quiet"),)}),
    )


def registry_of_images(url: str = "https://registry.example.com") -> selector.Binding:
    """The binding of a registry with an account."""
    return selector.Binding(
        name="registry",
        extension_id="harbor",
        service_id="images",
        service_resource="oci-registry",
        service_category="artifact-store",
        product="harbor",
        version="2.11.0",
        zone="",
        url=url,
        endpoint_type="internal",
        credentials_id="default",
        configuration={image_building.PREFIX: "team", "REGISTRY_USERNAME": "fuseml"},
        secret_keys=["REGISTRY_PASSWORD"],
    )


def _image_of_runnable() -> plans.Plan:
    code = planning.CodesetVersion(
        project="demo", codeset="tools", url="https://git.example.com/demo/tools.git", ref="refs/heads/main", commit="c" * 40
    )
    halve, halved = "runnable://demo/halve/1.0.0", "runnable://demo/halved/2.0.0"
    build = image_building.Build(runnable=halve, code=code, dockerfile="docker/Dockerfile", binding=registry_of_images())
    existing = "registry.example.com/team/demo/halved@sha256:" + "0" * 64
    made = image_building.Build(runnable=halved, code=code, dockerfile="Dockerfile", binding=registry_of_images(), existing=existing)
    steps = [
        engines.shell(name, "halve", image="fuseml.local/build:c", runnable=runnable, outputs=["rows"], checkouts=(codeset(),))
        for name, runnable in (("first", halve), ("second", halve), ("third", halved))
    ]
    return image_building.insert(make(*steps), {halve: build, halved: made}, "fuseml-workloads")


def _codesets() -> plans.Plan:
    model, data = codeset("model-code", "/project", folder="services/churn"), codeset("data-code", "/data")
    return make(
        engines.shell("prepare", "prepare", image="registry.example.com/tool:1", checkouts=(data,), outputs=["table"]),
        engines.shell(
            "train",
            "train",
            image="registry.example.com/train:1",
            checkouts=(model, data),
            needs=("prepare",),
            env={"TABLE": (*plans.text("file://"), *engines.out("prepare", "table"))},
        ),
    )


def _names() -> plans.Plan:
    plan = make(
        engines.shell("Prepare Data", "true", image="registry.example.com/tool:1", outputs=["table"]),
        engines.shell(
            "fuseml-mine",
            "true",
            image="registry.example.com/tool:1",
            needs=("Prepare Data",),
            env={"T": engines.out("Prepare Data", "table")},
        ),
    )
    return plan.model_copy(update={"workflow": "Nightly: Trainings für alle", "run": "Nightly: Trainings für alle-7", "project": "π"})


def _original_image() -> plans.Plan:
    return workflow_examples.plan_of(workflow_examples.named("image-output"))


def _step_tokens() -> plans.Plan:
    train, serve = (engines.shell(name, name, image="registry.example.com/tool:1") for name in ("train", "serve"))

    def with_token(step: plans.StepPlan, *names: str) -> plans.StepPlan:
        own = tuple(plans.Variable(name=name, value=(plans.step_token(step.name),)) for name in names)
        return step.model_copy(update={"variables": (*step.variables, *own)})

    return make(
        with_token(train, "MLFLOW_TRACKING_TOKEN"),
        with_token(serve, "MLFLOW_TRACKING_TOKEN", "FUSEML_API_TOKEN"),
        engines.shell("report", "report", image="registry.example.com/tool:1"),
    )


_RUNNABLE = """
name: fit
version: 1.0.0
image: registry.example.com/fit:1
command: [python, fit.py, "{{ inputs.depth }}"]
inputs:
  - {name: code, type: codeset}
  - {name: depth, type: integer, default: 3}
  - {name: alpha, type: number, pass: argument}
  - {name: config, pass: file, default: "loss: $(params.x)"}
outputs:
  - {name: model, type: model}
  - {name: rows, type: integer}
resources: {limits: {memory: 2Gi}}
"""
_FITTING = """
name: fitting
inputs:
  - {name: code, type: codeset}
  - {name: alpha, default: 0.1}
steps:
  - name: fit
    runnable: fit
    inputs:
      - codeset: {name: code}
      - {name: alpha, value: "{{ inputs.alpha }}"}
  - name: script
    image: registry.example.com/tool:1
    script: echo "$(context.run)" && cat "$FUSEML_RULES"
    inputs:
      - {name: rules, value: none, file: true}
"""


def _runnable() -> plans.Plan:
    fit = runnable_steps.Registered("runnable://workspace/fit/1.0.0", descriptor.load(_RUNNABLE))
    expansion = runnable_steps.expand(loading.load(_FITTING), {"fit": fit})
    runnable_steps.check(expansion)
    return workflow_examples.plan_of(expansion.workflow)


_TRAINING = """
name: elsewhere
inputs:
  - {name: code, type: codeset}
steps:
  - name: train
    image: ghcr.io/fuseml/trainer:v1
    extensions:
      - {name: training, service_category: training}
    inputs:
      - codeset: {name: code}
      - {name: command, value: python train.py}
      - {name: image, value: "registry.example.com/team/wine:1"}
      - {name: nodes, value: "2"}
    outputs: [{name: model}]
"""


def _training() -> plans.Plan:
    cluster = workflow_examples.binding(
        "training",
        extension_id="gpus",
        service_id="jobs",
        service_resource="kubeflow-trainjob",
        service_category="training",
        product="kubeflow-trainer",
        url="https://kubernetes.example.com:6443",
        configuration={"TRAINING_RUNTIME": "fuseml"},
        secret_keys=["KUBERNETES_TOKEN"],
    )
    return workflow_examples.plan_of(loading.load(_TRAINING), bindings={"train": {"training": cluster}})


def _no_codeset() -> plans.Plan:
    return make(engines.shell("one", "true", image="registry.example.com/tool:1"))


PLANS: dict[str, Callable[[], plans.Plan]] = {
    "artifacts": _artifacts,
    "credential-files": _credential_files,
    "step-tokens": _step_tokens,
    "conditions": _conditions,
    "conversion": _conversion,
    "image": _image,
    "image-dockerfile-from-step": _image_with_dockerfile_from_step,
    "image-of-runnable": _image_of_runnable,
    "devices": _devices,
    "limits": _limits,
    "names": _names,
    "no-codeset": _no_codeset,
    "original-image": _original_image,
    "runnable": _runnable,
    "secrets-in-text": _secrets,
    "shipped": _shipped,
    "shipped-batch": lambda: _shipped("mlflow-batch", model="models:/wine/1"),
    "shipped-gate": _gate,
    "shipped-matrix": lambda: _shipped("mlflow-matrix"),
    "texts-like-variables": _texts,
    "training": _training,
    "two-codesets": _codesets,
}
"""Name of the golden file -> plan."""
