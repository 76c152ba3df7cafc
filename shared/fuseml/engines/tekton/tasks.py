"""The tasks that a run is made of: cloning a codeset, running a step, building an image. Scripts of ours read their input from the environment."""

from __future__ import annotations

from collections.abc import Sequence

from fuseml.domain import errors, plans
from fuseml.domain.plans import outputs
from fuseml.engines.tekton import events, names, settings, values
from fuseml.engines.tekton.values import Object

WORKSPACE = "source"
RESULTS = "/tekton/results"
DIGEST_SUFFIX = "-digest"
"""What stands behind the name of an image output in the name of the result that holds the image's digest."""

_SCRIPT_FOLDER = "/fuseml"
_BUILD_FOLDER = "/fuseml-build"
_CLONE_RETRIES = 2


def _octal(characters: str) -> str:
    return "".join(f"\\{ord(character):03o}" for character in characters)


# A later step may run as another user than the clone, hence the umask.
CLONE = """\
#!/bin/sh
set -eu
umask 0
find . -mindepth 1 -delete
git init --quiet .
# Not every git host hands out a commit by its name; the branch or tag that led to it brings it too.
git fetch --quiet --no-tags --depth 1 -- "$GIT_URL" "$GIT_COMMIT" || git fetch --quiet --no-tags -- "$GIT_URL" "$GIT_REF"
git checkout --quiet --detach "$GIT_COMMIT"
mkdir -p .fuseml
printf '%s' "$CODESET_PROJECT" > .fuseml/_org
printf '%s' "$CODESET_NAME" > .fuseml/_project
"""
_CREDENTIAL_HELPER = """!f() { printf 'username=%s\\npassword=%s\\n' "$GIT_USERNAME" "$GIT_PASSWORD"; }; f"""

# kaniko is archived. With chroot isolation and vfs, buildah needs neither a daemon nor a kernel module, but a privileged container.
BUILD = f"""\
#!/bin/sh
set -eu
in_storage() {{ buildah --root {_BUILD_FOLDER}/storage --runroot {_BUILD_FOLDER}/run --storage-driver vfs "$@"; }}
if [ -z "$DOCKERFILE" ]; then DOCKERFILE=$(tail -n 1 {_BUILD_FOLDER}/said); fi
in_storage build --isolation chroot --network host --tls-verify="$VERIFY_REGISTRY" --file "$DOCKERFILE" --tag "$IMAGE" .
in_storage push --tls-verify="$VERIFY_REGISTRY" --digestfile {_BUILD_FOLDER}/digest "$IMAGE" "docker://$IMAGE"
printf '%s' "$IMAGE" > "{RESULTS}/$OUTPUT"
cat {_BUILD_FOLDER}/digest > "{RESULTS}/$OUTPUT{DIGEST_SUFFIX}"
"""
# The rest of the step contract: an output that is declared is written, all of them are small enough to be handed on, and the newline that
# `echo` leaves is not part of it. The exit code tells what is wrong: a container can say nothing else that Tekton passes on, and not even
# that while there are outputs that are too large.
CHECK = f"""\
number=0
size=0
for output; do
  number=$((number + 1))
  file="{RESULTS}/$output"
  if [ ! -f "$file" ]; then echo "the step finished without writing its output '$output'" >&2; exit "$number"; fi
  long=$(tr -cd '{_octal(outputs.LONG)}' < "$file" | wc -c)
  double=$(tr -cd '{_octal(outputs.DOUBLE)}' < "$file" | wc -c)
  size=$((size + {outputs.AROUND} + ${{#output}} + $(wc -c < "$file") + 5 * long + double))
done
if [ "$size" -gt {outputs.LIMIT} ]; then
  echo '{outputs.TOO_LARGE}' >&2
  for output; do rm -f "{RESULTS}/$output"; done
  exit {events.OUTPUTS_TOO_LARGE}
fi
for output; do
  text=$(cat "{RESULTS}/$output"; printf .)
  text=${{text%.}}
  text=${{text%"$NEWLINE"}}
  text=${{text%"$RETURN"}}
  printf %s "$text" > "{RESULTS}/.$output"
  mv -f "{RESULTS}/.$output" "{RESULTS}/$output"
done
"""
_LISTEN = f'"$@" > {_BUILD_FOLDER}/said; cat {_BUILD_FOLDER}/said'


def clone(checkout: plans.Checkout, bundle: values.SecretBundle, settings: settings.Settings) -> Object:
    """Places the codeset at its commit on the run's volume, with the files that tell its identity (step contract)."""
    configuration = {"safe.directory": "*"}
    credentials: list[Object] = []
    account = bundle.account(checkout)
    if account is not None:
        configuration["credential.helper"] = _CREDENTIAL_HELPER
        for name, key in zip(("GIT_USERNAME", "GIT_PASSWORD"), account, strict=True):
            credentials.append({"name": name, "valueFrom": bundle.reference(key)})
    variables = {
        "GIT_URL": checkout.url,
        "GIT_COMMIT": checkout.commit,
        "GIT_REF": checkout.ref,
        "CODESET_PROJECT": checkout.project,
        "CODESET_NAME": checkout.codeset,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_COUNT": str(len(configuration)),
    }
    for number, (key, value) in enumerate(configuration.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    writer = values.Writer(bundle, values.Parameters({}), {name: plans.text(value) for name, value in variables.items()})
    container = {
        "name": "clone",
        "image": settings.git_image,
        "workingDir": f"$(workspaces.{WORKSPACE}.path)",
        "script": CLONE,
        "env": credentials + writer.environment(),
    }
    name = names.clone(checkout)
    return {
        "name": name,
        "workspaces": [{"name": WORKSPACE, "workspace": WORKSPACE, "subPath": name}],
        "retries": _CLONE_RETRIES,
        "taskSpec": {"workspaces": [{"name": WORKSPACE}], "steps": [container]},
    }


def step(
    planned: plans.StepPlan, task: str, parameters: values.Parameters, bundle: values.SecretBundle, settings: settings.Settings
) -> Object:
    """Runs a step, or builds the image that it describes. What it waits for and its conditions are the run's business."""
    results = [output.name for output in planned.outputs]
    built = next((output for output in planned.outputs if output.image is not None), None)
    if built is not None and built.image is not None:
        containers, volumes = _build(planned, built.name, built.image, parameters, bundle, settings)
        results.append(f"{built.name}{DIGEST_SUFFIX}")
    else:
        containers, volumes = _run(planned, task, parameters, bundle, settings)
    if any(output.image is None for output in planned.outputs):
        containers.append(_check(results, settings))
    spec: Object = {
        "params": [{"name": name, "type": "string"} for name in parameters.results],
        "workspaces": [{"name": f"code-{index}", "mountPath": item.path} for index, item in enumerate(planned.checkouts)],
        "results": [{"name": name, "type": "string"} for name in results],
        "volumes": volumes,
        "steps": containers,
    }
    found: Object = {
        "name": task,
        "params": [{"name": name, "value": reference} for name, reference in parameters.results.items()],
        "workspaces": [
            {"name": f"code-{index}", "workspace": WORKSPACE, "subPath": names.clone(item)} for index, item in enumerate(planned.checkouts)
        ],
        "retries": planned.retries,
        # Without one Tekton ends a task after an hour; a training may take longer.
        "timeout": f"{planned.timeout or 0}s",
        "taskSpec": {key: value for key, value in spec.items() if value},
    }
    return {key: value for key, value in found.items() if value}


def image_of(planned: plans.Plan, name: plans.Value) -> tuple[str, str]:
    """The step and the output that is the image of this name. Raises PermanentError: Tekton has no outputs that no task writes."""
    for step in planned.steps:
        for output in step.outputs:
            if output.image is not None and output.image.name == name:
                return step.name, output.name
    raise errors.PermanentError(f"run {planned.run}: Tekton can hand out only what one step has written, not a text that is put together")


def _run(
    planned: plans.StepPlan, task: str, parameters: values.Parameters, bundle: values.SecretBundle, settings: settings.Settings
) -> tuple[list[Object], list[Object]]:
    """The container of a step, and the volumes that it needs."""
    writer = values.Writer(bundle, parameters, _variables(planned, settings))
    container = _container(planned, writer, "run")
    volumes: list[Object] = []
    if planned.script and values.is_carried(planned.script):
        text = writer.plain(planned.script)
        key = bundle.script(task, text if text.startswith("#!") else f"#!/bin/sh\nset -e\n{text}")
        items = [{"key": key, "path": "script", "mode": 0o555}]
        volumes = [{"name": "script", "secret": {"secretName": bundle.name, "items": items}}]
        container["volumeMounts"] = [{"name": "script", "mountPath": _SCRIPT_FOLDER, "readOnly": True}]
        container["command"] = [f"{_SCRIPT_FOLDER}/script"]
    elif planned.script:
        container["script"] = writer.plain(planned.script)
    else:
        container["command"] = [writer.argument(value) for value in _command(planned)]
    if planned.args:
        container["args"] = [writer.argument(value) for value in planned.args]
    container["env"] = writer.environment()
    return [{**container, **_resources(planned)}], volumes


def _build(
    planned: plans.StepPlan,
    output: str,
    image: plans.ImageBuild,
    parameters: values.Parameters,
    bundle: values.SecretBundle,
    settings: settings.Settings,
) -> tuple[list[Object], list[Object]]:
    """As in the original (infra/platform-facts.md 6.3): where no Dockerfile is named, the step's own program runs first, and its
    last line says which one to take.
    """
    mounts = [{"name": "build", "mountPath": _BUILD_FOLDER}]
    containers: list[Object] = []
    if not image.dockerfile:
        writer = values.Writer(bundle, parameters, _variables(planned, settings))
        preparing = _container(planned, writer, "prepare")
        said = [writer.argument(value) for value in (*_command(planned), *planned.args)]
        preparing |= {"command": ["/bin/sh", "-ec", _LISTEN, "prepare", *said], "env": writer.environment(), "volumeMounts": mounts}
        containers.append(preparing)
    variables = {
        "IMAGE": image.name,
        "DOCKERFILE": image.dockerfile,
        "OUTPUT": plans.text(output),
        "VERIFY_REGISTRY": plans.text("true" if settings.verify_registry else "false"),
    }
    building = {
        "name": "build",
        "image": settings.build_image,
        "workingDir": planned.checkouts[0].path,
        "script": BUILD,
        "env": values.Writer(bundle, parameters, variables).environment(),
        "volumeMounts": mounts,
        "securityContext": {"privileged": True},
        **_resources(planned),
    }
    return [*containers, building], [{"name": "build", "emptyDir": {}}]


def _check(written: Sequence[str], settings: settings.Settings) -> Object:
    return {
        "name": events.CHECK_CONTAINER,
        "image": settings.git_image,
        "command": ["/bin/sh", "-euc", CHECK, "check", *written],
        "env": [{"name": "NEWLINE", "value": "\n"}, {"name": "RETURN", "value": "\r"}],
    }


def _container(planned: plans.StepPlan, writer: values.Writer, name: str) -> Object:
    container = {"name": name, "image": writer.plain(planned.image)}
    return container | {"workingDir": planned.checkouts[0].path} if planned.checkouts else container


def _command(planned: plans.StepPlan) -> Sequence[plans.Value]:
    return planned.command or (plans.text("run"),)


def _variables(planned: plans.StepPlan, settings: settings.Settings) -> dict[str, plans.Value]:
    installed = {name: plans.text(value) for name, value in settings.variables.items()}
    return {**installed, **{variable.name: variable.value for variable in planned.variables}, "FUSEML_ENV_RESULTS": plans.text(RESULTS)}


def _resources(planned: plans.StepPlan) -> Object:
    found = {"requests": dict(planned.resources.requests), "limits": dict(planned.resources.limits)}
    return {"computeResources": {kind: amounts for kind, amounts in found.items() if amounts}} if any(found.values()) else {}
